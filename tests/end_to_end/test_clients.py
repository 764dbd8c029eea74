"""Each client and feature of docs/reference/clients.md with the real program, and the page that shows them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.clients.features import FEATURES, Bench, Feature
from tests.end_to_end.clients.page import PAGE, committed, page, row
from tests.end_to_end.running import ROOT

RENEWAL = f"run: python -m tests.end_to_end.clients.page, which writes {PAGE.relative_to(ROOT)}"


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with Bench() as bench:
        yield bench


@pytest.mark.parametrize("feature", FEATURES, ids=[f"{each.client}: {each.what}" for each in FEATURES])
def test_feature(feature: Feature, bench: Bench) -> None:
    assert committed(feature) == row(feature, feature.show(bench)), RENEWAL


def test_the_page_has_these_features_and_no_others() -> None:
    assert PAGE.read_text() == page([committed(each) for each in FEATURES]), RENEWAL
