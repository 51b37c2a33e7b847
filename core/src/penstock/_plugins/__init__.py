"""
Installed plugins: found, checked and looked up by name.
"""
