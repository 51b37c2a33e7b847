"""
A run that is divided among processes: the coordinator, its workers, and the messages between them.
"""
