"""The bench measures what it says it measures."""

from policies.trust.bench import measured


def test_every_grant_of_the_bench_is_agreed_to_and_every_figure_is_there() -> None:
    found = measured(entities=2, grants=10, repeat=1)
    assert (found["agreed"], found["grants"], found["entities"]) == (10, 10, 2)
    times = {name for name in found if name.endswith("_ms") and not name.endswith("_cpu_ms")}
    assert times == {
        "first_refresh_ms",
        "refresh_one_row_ms",
        "refresh_one_roster_ms",
        "refresh_timestamp_ms",
        "load_at_start_ms",
        "arrange_rulebook_ms",
        "publish_ms",
    }
    assert all(found[name] > 0 for name in times)
