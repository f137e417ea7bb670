"""UCF101: classInd.txt, and a training and a test list for each of three splits."""

from __future__ import annotations

from vssl.data.lists import (
    TEST,
    TRAIN,
    Files,
    Listing,
    Lists,
    find_entries,
    label_of,
    labels_by_name,
    read_class_names,
    read_lines,
    split_by_path,
)

PLACES = ("ucfTrainTestlist",)
SOURCE = "https://www.crcv.ucf.edu/data/UCF101/UCF101TrainTestSplits-RecognitionTask.zip"


def read(files: Files, lists: Lists) -> Listing:
    [class_file] = lists.need("classInd.txt")
    classes = read_class_names(class_file)
    numbers = labels_by_name(classes)
    for first in ("trainlist01.txt", "testlist01.txt"):
        lists.need(first)
    splits = []
    for split in (1, 2, 3):
        train, test = (lists.find(f"{word}list{split:02}.txt") for word in ("train", "test"))
        if train and test:
            splits.append(
                split_by_path(
                    [(path, TRAIN) for path, _ in read_lines(train[0])]
                    + [(path, TEST) for path, _ in read_lines(test[0])],
                    test[0],
                )
            )
    paths = dict.fromkeys(path for split in splits for path in split)
    labels = {path: label_of(path.split("/")[0], numbers, class_file) for path in paths}
    return Listing(classes, find_entries(labels, splits, files.named))
