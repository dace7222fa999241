"""Large annotation files are checked while MMDetection reads them, so that none is read twice."""

from collections.abc import Sequence

from mmdet.datasets import CocoDataset
from mmdet.datasets.api_wrappers import COCO

from .coco_file import AnnotationError, check_annotations, check_classes


class CheckedCOCO(COCO):
    """MMDetection's reader of COCO files, which refuses what makes no sense."""

    def __init__(self, annotation_file: str) -> None:
        self.file = annotation_file
        try:
            super().__init__(annotation_file)
        except AnnotationError:
            raise
        except ValueError as error:  # of the JSON decoder
            raise AnnotationError(
                f"annotations {annotation_file} cannot be read: {error}. Get the file anew"
            ) from error

    def createIndex(self) -> None:
        check_annotations(self.dataset, self.file)
        super().createIndex()

    def get_cat_ids(
        self,
        cat_names: Sequence[str] = (),
        sup_names: Sequence[str] = (),
        cat_ids: Sequence[int] = (),
    ) -> list[int]:
        """As in MMDetection's; the data set asks for the categories of its classes."""
        if len(cat_names):
            check_classes(self.dataset, self.file, cat_names)
        return super().get_cat_ids(cat_names, sup_names, cat_ids)


def check_while_reading() -> None:
    """Let every data set of this process that reads COCO files as MMDetection does check them."""
    if CocoDataset.COCOAPI is COCO:
        CocoDataset.COCOAPI = CheckedCOCO
