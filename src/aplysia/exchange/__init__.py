"""Nets in and out: what a file of NIR says of a net, what it cannot say, and how other libraries read it."""
