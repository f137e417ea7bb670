"""UCF101: classInd.txt, and a training and a test list for each of three splits."""

from pathlib import Path

from vssl.data.lists import TEST, TRAIN, Classes, Files, Listing, Lists, claimed
from vssl.errors import VsslError

PLACES = ("ucfTrainTestlist",)
SOURCE = "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip"


def read(files: Files, lists: Lists) -> Listing:
    """The folder in a line says the class; a number behind it has to agree."""
    classes = Classes.read(*lists.need("classInd.txt"))
    for first in ("trainlist01.txt", "testlist01.txt"):
        lists.need(first)
    pairs = [(lists.find(f"trainlist{n:02}.txt"), lists.find(f"testlist{n:02}.txt")) for n in (1, 2, 3)]
    splits = [pair for pair in pairs if all(pair)]
    rows = []
    for split, ([train], [test]) in enumerate(splits):
        for row in [*lists.rows(train, TRAIN), *lists.rows(test, TEST)]:
            name = Path(row.path).parent.name
            if row.word and classes.get(row.word) != classes.get(name):
                raise VsslError(f"{row.where}: {row.word} is not the number of {name}; correct one of them")
            rows.append(row._replace(word=name, split=split))
    return claimed(rows, lambda row: files.named(row, classes), classes, len(splits))
