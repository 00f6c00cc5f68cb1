"""Plain COCO files, as annotation tools and converters write them."""
