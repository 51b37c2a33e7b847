"""
Small helpers that any stage uses: the clock, and words of messages.
"""
