"""How does a model compare with people who read the same cases, alone and together with them?"""

PAGE, TEXT, DATA = "readers.html", "readers.md", "readers.json"
IMRMC, RJAFROC = "readers.imrmc", "readers_rjafroc.xlsx"
FILES = (PAGE, TEXT, DATA, IMRMC, RJAFROC)
"""What a comparison with readers writes into the folder of the report."""
