"""Images of poses: the colours and sizes with which ControlNets for OpenPose were trained."""

import numpy as np
import pytest

from service.images.openpose import (
    BODY_POINTS,
    COLOURS,
    FACE_POINTS,
    HAND_POINTS,
    LIMBS,
    Point,
    Pose,
    render_poses,
)
from service.images.preprocessing import binarized, inverted
from tests.service.sample_images import gradient

SIZE = (128, 96)


def body(**points: Point) -> list[Point | None]:
    """Return the points of a body of which some are seen: p0=(x, y)."""
    return [points.get(f"p{i}") for i in range(BODY_POINTS)]


def pixels(*poses: Pose) -> np.ndarray:
    return np.asarray(render_poses(poses, SIZE))


def test_nobody_is_black() -> None:
    for poses in ([], [Pose()], [Pose(body(), (), [])]):
        found = pixels(*poses)
        assert found.shape == (96, 128, 3)
        assert not found.any()


@pytest.mark.parametrize("point", range(BODY_POINTS))
def test_a_point_of_a_body_is_a_disc_of_its_colour(point: int) -> None:
    found = pixels(Pose(body(**{f"p{point}": (40, 30)})))
    assert tuple(found[30, 40]) == COLOURS[point]
    y, x = np.nonzero(found.any(axis=-1))
    assert (x.min(), x.max(), y.min(), y.max()) == (36, 44, 26, 34)
    assert len({tuple(colour) for colour in found[y, x]}) == 1


@pytest.mark.parametrize("limb", range(len(LIMBS)))
def test_a_limb_is_an_ellipse_in_the_darker_colour_of_its_number(limb: int) -> None:
    one, other = LIMBS[limb]
    found = pixels(Pose(body(**{f"p{one}": (20, 48), f"p{other}": (100, 48)})))
    assert tuple(found[48, 60]) == tuple(int(0.6 * part) for part in COLOURS[limb])
    column = np.nonzero(found[:, 60].any(axis=-1))[0]
    assert 7 <= len(column) <= 9  # 4 pixels to each side
    assert tuple(found[48, 20]) == COLOURS[one]
    assert tuple(found[48, 100]) == COLOURS[other]


def test_the_limbs_are_those_of_openpose() -> None:
    """From neck to shoulder, elbow, wrist; hip, knee, ankle; nose, eye, ear; right, then left."""
    names = [
        *("nose", "neck", "rs", "re", "rw", "ls", "le", "lw", "rhip", "rknee", "rank"),
        *("lhip", "lknee", "lank", "reye", "leye", "rear", "lear"),
    ]
    found = [f"{names[one]}-{names[other]}" for one, other in LIMBS]
    assert found == [
        *("neck-rs", "neck-ls", "rs-re", "re-rw", "ls-le", "le-lw"),
        *("neck-rhip", "rhip-rknee", "rknee-rank", "neck-lhip", "lhip-lknee", "lknee-lank"),
        *("neck-nose", "nose-reye", "reye-rear", "nose-leye", "leye-lear"),
    ]


def test_points_in_one_place_and_outside_are_rendered_or_left() -> None:
    assert pixels(Pose(body(p1=(50, 50), p2=(50, 50)))).any()
    assert not pixels(Pose(body(p1=(-500, -500), p2=(-500, -900)))).any()
    across = pixels(Pose(body(p1=(-1e5, 48), p2=(1e5, 48))))
    assert across[48, 64].any()


def test_hands_are_fingers_in_all_hues_with_blue_joints() -> None:
    hand: list[Point | None] = [
        (64, 90),
        *((20 * (1 + i // 4), 70 - 15 * (i % 4)) for i in range(20)),
    ]
    assert len(hand) == HAND_POINTS
    found = pixels(Pose(hands=(hand,)))
    for point in hand:
        assert point is not None
        assert tuple(found[int(point[1]), int(point[0])]) == (0, 0, 255)
    assert tuple(found[62, 20]) == (255, 77, 0)  # the second bone of twenty hues
    hand[2] = None  # the bones at a joint that is not seen are left out
    assert not pixels(Pose(hands=(hand,)))[62, 20].any()


def test_a_face_is_white_dots() -> None:
    face = [(8 + 1.5 * i, 40.0) for i in range(FACE_POINTS)]
    found = pixels(Pose(face=face))
    assert tuple(found[40, 60]) == (255, 255, 255)
    y, _ = np.nonzero(found.any(axis=-1))
    assert (y.min(), y.max()) == (37, 43)


def test_several_people_are_rendered_alike() -> None:
    one, other = body(p0=(20, 20)), body(p0=(100, 70))
    found = pixels(Pose(one), Pose(other))
    assert (found == np.maximum(pixels(Pose(one)), pixels(Pose(other)))).all()


def test_preprocessors_of_pixels() -> None:
    image = gradient()
    given = np.asarray(image)
    assert (np.asarray(inverted(image)) == 255 - given).all()
    for threshold in (0, 60, 127, 255):
        expected = np.where(given.min(axis=-1, keepdims=True) > threshold, 255, 0)
        assert (np.asarray(binarized(image, threshold)) == expected).all()
