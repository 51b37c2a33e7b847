"""
The plan of a run: the partitions of its streams that are not final. ``planner`` joins the other modules.
"""
