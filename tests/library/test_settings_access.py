"""The accessors: the settings of this process, with debug mode applied, loaded and loaded again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lffs.config import Settings
from lffs.errors import ConfigError
from lffs.library import settings_access
from lffs.library.settings_access import (
    current_settings,
    forget_settings,
    get_cleanup_config,
    get_cleanup_enabled,
    get_cleanup_policy,
    get_debug_mode_disables,
    get_default_job_type,
    get_failed_retention_hours,
    get_file_types_to_clean,
    get_job_roots,
    get_keep_unlinked,
    get_max_share,
    get_min_free,
    get_preserve_on_failure,
    get_retention_hours,
    get_status_names,
    installed_settings,
    is_debug_mode,
    is_lazy_directories_enabled,
    reload_settings,
    use_settings,
)
from lffs.model import TEMPORARY_TYPES, FileType, JobType, StatusNames
from lffs.mounting.table import UsageError


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("LFFS_DEBUG", raising=False)
    forget_settings()
    yield
    forget_settings()


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_without_a_file_they_are_the_defaults() -> None:
    assert current_settings() == Settings()
    assert installed_settings() is None
    assert get_cleanup_enabled()
    assert get_retention_hours() == 24
    assert get_failed_retention_hours() is None
    assert set(get_file_types_to_clean()) == TEMPORARY_TYPES
    assert get_keep_unlinked() == []
    assert get_preserve_on_failure()
    assert get_debug_mode_disables()
    assert not is_debug_mode()
    assert get_min_free() is None
    assert get_max_share() is None
    assert get_job_roots() == ["*"]
    assert get_default_job_type() is JobType.SHORT_FORM
    assert get_status_names() is StatusNames.SUFFIX
    assert is_lazy_directories_enabled()
    assert get_cleanup_policy() == Settings().cleanup.policy


def test_a_file_is_what_they_say(tmp_path: Path) -> None:
    text = """
        cleanup: {retention_hours: 1.5, failed_retention_hours: 7, file_types_to_clean: [temp_audio],
                  keep_unlinked: [temp_slide], preserve_on_failure: false, min_free: 5%, max_share: 0.5}
        jobs: {roots: ["*/*"], default_type: long_form, status_names: plain}
        directories: {lazy: false}
    """
    assert use_settings(write(tmp_path / "lffs.yaml", text)) == current_settings() == installed_settings()
    assert (get_retention_hours(), get_failed_retention_hours()) == (1.5, 7)
    assert get_file_types_to_clean() == [FileType.TEMP_AUDIO]
    assert get_keep_unlinked() == [FileType.TEMP_SLIDE]
    assert not get_preserve_on_failure()
    assert str(get_min_free()) == "5%"
    assert get_max_share() == 0.5
    assert (get_job_roots(), get_default_job_type()) == (["*/*"], JobType.LONG_FORM)
    assert get_status_names() is StatusNames.PLAIN
    assert not is_lazy_directories_enabled()
    section = get_cleanup_config()
    assert section["file_types_to_clean"] == ["temp_audio"]
    assert section.keys() == type(Settings().cleanup).model_fields.keys()


def test_debug_mode_turns_cleanup_off_and_touches_no_other_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LFFS_DEBUG", "1")
    assert is_debug_mode()
    assert not get_cleanup_enabled()
    assert get_file_types_to_clean() == []
    assert get_retention_hours() == 24
    assert get_cleanup_policy() == Settings().cleanup.policy
    use_settings(None, {"cleanup.debug_mode_disables": False, "cleanup.preserve_on_failure": False})
    assert get_cleanup_enabled()
    assert set(get_file_types_to_clean()) == TEMPORARY_TYPES
    assert not get_preserve_on_failure()
    use_settings(None, {"cleanup.preserve_on_failure": False})
    assert get_preserve_on_failure()


def test_with_cleanup_off_no_type_is_cleaned() -> None:
    use_settings(None, {"cleanup.enabled": False})
    assert not get_cleanup_enabled()
    assert get_file_types_to_clean() == []


def test_a_profile_goes_by_its_name() -> None:
    use_settings("langflix")
    assert get_job_roots() == ["*/*"]


def test_the_environment_goes_before_the_file_and_overrides_before_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "lffs.yaml", "cleanup: {retention_hours: 1}\n")
    monkeypatch.setenv("LFFS_CLEANUP__RETENTION_HOURS", "2")
    use_settings(file)
    assert get_retention_hours() == 2
    use_settings(file, {"cleanup.retention_hours": 3})
    assert get_retention_hours() == 3


def test_they_can_be_loaded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "lffs.yaml", "cleanup: {retention_hours: 1}\n")
    monkeypatch.chdir(tmp_path)
    use_settings("lffs.yaml")
    monkeypatch.chdir("/")
    write(file, "cleanup: {retention_hours: 2}\n")
    assert get_retention_hours() == 1
    reload_settings()
    assert get_retention_hours() == 2
    assert installed_settings() == current_settings()


def test_a_mistake_is_named_and_leaves_what_held(tmp_path: Path) -> None:
    file = write(tmp_path / "lffs.yaml", "cleanup: {retention_hours: 1}\n")
    use_settings(file)
    write(file, "cleanup: {retention_hours: -1}\n")
    with pytest.raises(ConfigError, match=r"lffs\.yaml:1.*retention_hours"):
        reload_settings()
    with pytest.raises(UsageError, match="does not exist"):
        use_settings(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match=r"cleanup\.types"):
        use_settings(None, {"cleanup.types": []})
    assert get_retention_hours() == 1


def test_every_accessor_is_tested_here() -> None:
    """One that is added is to be looked at with debug mode in mind."""
    accessors = {name for name in vars(settings_access) if name.startswith(("get_", "is_"))}
    assert accessors <= globals().keys()
