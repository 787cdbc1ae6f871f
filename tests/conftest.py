"""What all tests share: a framework that is set up as in the stages, and no outside influence."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# The same examples every time; `pytest --hypothesis-profile=stress` tries many more, and others.
settings.register_profile("test", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("stress", max_examples=2_000, deadline=None)
settings.load_profile("test")

for _variable in list(os.environ):
    # Git sets some for what its hooks start.
    if _variable.startswith(("MLFLOW_", "DEEPNETS_", "MAKE", "MFLAGS", "GIT_")):
        del os.environ[_variable]

# A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

from deepnets.networks import runtime  # noqa: E402

runtime.start_framework()

# Two workers share the files; the long ones go first, so that both end at the same time.
_LONGEST = (
    "test_extending",
    "test_pipeline",
    "test_grid",
    "test_reproduce",
    "test_device_epochs",
    "test_tracking_server",
    "test_nothing_is_lost",
    "test_outcomes",
    "test_jax",
    "test_team",
    "test_dvc_idioms",
    "test_mlflow_run",
    "test_models",
    "test_full_disk",
    "test_two_processes",
)


# What starts whole trainings, servers or other programs, or compiles networks: not in `make check`.
_SLOW = frozenset(
    {
        *_LONGEST,
        *("test_ray", "test_lifeline", "test_locks", "test_git"),
        *("test_adopt", "test_cli", "test_predict", "test_serving", "test_verify"),
        *("test_fields", "test_params_mutants", "test_gpu_docs", "test_diagnosis"),
        *("test_convolutions", "test_foreign_code", "test_runtime", "test_variants"),
        *("test_compiled", "test_damage", "test_environment"),
        *("test_clock", "test_page", "test_report", "test_initialize", "test_train", "test_keep"),
        *("test_addresses", "test_without_mlflow", "test_tracking", "test_store", "test_tags"),
        *("test_same_mathematics", "test_training_loop", "test_logged_models"),
    }
)


# Damage that takes long to do, or what costs much beside a quicker test of nearly the same: not in
# `make test` but in `make stress`. Names of tests, or of files.
_STRESS = frozenset(
    {
        "test_without_mlflow.py",  # as test_jax and test_team
        # As test_jax, which has no DVC, MLflow and TensorFlow either:
        "test_jax_alone_is_chosen_and_said",
        "test_a_checkout_without_results_counts_as_clean",
        "test_the_results_are_taken_over_at_home",
        "test_a_grid_packs_numbers_and_no_models",
        # As test_team, whose members pull and publish:
        "test_an_empty_store_is_filled_from_the_files",
        "test_a_fresh_clone_pulls_and_has_nothing_to_do",
        "test_repro_pulls_what_it_lacks",
        "test_a_killed_dvc_takes_its_training_with_it",
        "test_a_torn_dvc_lock_costs_no_training",
        "test_another_training_starts_afresh_and_says_why",
        "test_changed_code_and_weights_start_afresh",
        "test_training_goes_on_wherever_the_disk_was_full",
        "test_stage_that_finds_the_disk_full_half_way",
        "test_the_named_command_mends",
        "test_the_named_command_mends_where_dvc_links_its_cache",
        "test_what_is_said_of_a_link_keeps_files_on_the_other_disk",
        "test_a_server_killed_in_a_real_training_and_started_again",
        "test_a_store_without_a_registry_costs_a_warning",
        "test_an_interrupted_run_continues_and_ends_as_if_it_never_was",
        "test_training_again_gives_the_same_bits",
        "test_refused_parameters_cost_no_finished_work",
        "test_saved_models_need_keras_alone",
        "test_a_reliability_figure_names_the_rows_that_it_lacks",
        "test_a_server_that_begins_to_hang_is_not_waited_for",
        "test_four_at_once_on_an_empty_sqlite",
        "test_a_tracking_process_killed_in_a_batch_leaves_no_step_twice_and_none_out",
        "test_a_long_training_says_what_it_runs_on_and_when_it_will_be_done",
        "test_the_report_is_an_entry_point",
        "test_a_clone_that_adopts_the_models_trains_nothing",
        "test_changing_the_report_reruns_the_report_only",
        "test_figures_that_a_report_does_not_show_go",
        "test_the_pages_request_gets_the_answer_that_it_shows",
        "test_the_extremes_that_are_accepted_train",
        "test_training_steps_differ_by_rounding_only[resnet50-adam]",
        "test_training_steps_differ_by_rounding_only[vgg16-adam]",
        # As test_a_run_of_a_commit_comes_out_again_to_the_bit:
        "test_a_run_beside_the_grid_comes_out_again",
        # As test_team, whose server has PostgreSQL, and as test_locks:
        "test_four_at_once_on_an_empty_postgresql",
        "test_the_second_process_on_a_run_says_who_holds_it",
        "test_a_full_disk_below_a_sqlite_store",
        "test_a_training_killed_with_its_tracking_process_does_not_stay_running",
        "test_mlflow_run_says_in_a_line_that_the_server_is_down",
    }
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the files by how long they take; within a file nothing changes."""
    for item in items:
        if _STRESS & {item.path.name, item.name, item.name.partition("[")[0]}:
            item.add_marker("stress")
        if item.path.stem in _SLOW:
            item.add_marker("slow")
    rank = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(rank)))


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model that knows most digits, in a moment."""
    import linear

    path = tmp_path_factory.mktemp("model") / "seed-0.keras"
    linear.save(path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Debian's Chromium without a display, driven by Playwright; a skip where either is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright")
    programs = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    program = next(programs, None)
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    # As root, and without what it asks of its maker by itself.
    arguments = [
        *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update"),
    ]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new SQLite store, which takes MLflow seconds to make."""
    import mlflow

    database = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def study(
    tmp_path: Path,
    empty_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """A study without trainings, in a folder that is the current one."""
    from studies import Study

    shutil.copy(empty_store, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    study = Study(tmp_path, capsys)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", study.store)
    return study
