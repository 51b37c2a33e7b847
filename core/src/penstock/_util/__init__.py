"""
What any stage uses: clock, days, files, text of messages, and the run report that each stage adds to.
"""
