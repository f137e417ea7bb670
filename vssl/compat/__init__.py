"""The private parts of other libraries that vssl uses. tests/test_compat.py looks after them."""
