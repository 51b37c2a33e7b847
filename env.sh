export PYTHONPATH=/tmp/core-names/c/core/src:/tmp/core-names/c/plugins/src
