"""
What any stage uses: clock, days, files, text of messages.
"""
