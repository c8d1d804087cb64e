"""Settings: defaults, layers in their order, and one clear message for each mistake."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pydantic
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lffs.config import (
    CleanupSettings,
    JobSettings,
    LoadedSettings,
    Rule,
    Settings,
    find_profile,
    load_settings,
    show_settings,
)
from lffs.errors import ConfigError
from lffs.model import TEMPORARY_TYPES, DirectoryType, FileType, JobType, StatusNames
from lffs.units import MinFree

WriteConfig = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteConfig:
    def write_config(text: str) -> Path:
        file = tmp_path / "lffs.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write_config


def complaint(
    file: Path | None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, object] | None = None
) -> str:
    """What loading says, which must fail."""
    with pytest.raises(ConfigError) as caught:
        load_settings(file, environ or {}, overrides or {})
    return str(caught.value)


# --- defaults and profiles


def test_default_yaml_is_exactly_the_built_in_defaults() -> None:
    loaded = load_settings(find_profile("default"))
    assert loaded.settings == Settings()
    assert show_settings(loaded) != []


def test_default_yaml_sets_every_option_and_comments_it() -> None:
    file = find_profile("default")
    assert file is not None
    assert "default" not in load_settings(file).sources.values()
    lines = file.read_text().splitlines()
    for source in load_settings(file).sources.values():
        line_above = lines[int(source.rpartition(":")[2]) - 2]
        assert line_above.lstrip().startswith("#")


def test_the_defaults_are_those_of_the_interface() -> None:
    cleanup = Settings().cleanup
    assert (cleanup.enabled, cleanup.retention_hours, cleanup.failed_retention_hours) == (True, 24, None)
    assert cleanup.file_types_to_clean == TEMPORARY_TYPES
    assert cleanup.keep_unlinked == frozenset()
    assert (cleanup.preserve_on_failure, cleanup.debug_mode_disables) == (True, True)
    assert (cleanup.min_free, cleanup.min_free_overrides_retention) == (None, False)
    assert Settings().jobs == JobSettings(
        roots=("*",), default_type=JobType.SHORT_FORM, status_names=StatusNames.SUFFIX
    )
    assert (Settings().directories.lazy, Settings().directories.types) == (True, {})


def test_only_the_profiles_that_come_with_lffs_are_found() -> None:
    for name in ("default", "langflix"):
        file = find_profile(name)
        assert file is not None
        assert file.name == f"{name}.yaml"
    for name in ("", "nosuch", "../config/default", "/etc/passwd", "default.yaml"):
        assert find_profile(name) is None


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "cleanup:\n", "{}", "\ufeffdebug: false"])
def test_a_file_that_sets_nothing_leaves_the_defaults(write: WriteConfig, text: str) -> None:
    assert load_settings(write(text)).settings == Settings()


@pytest.mark.parametrize(
    ("enabled", "debug", "disables", "automatic"),
    [
        (True, False, True, True),
        (True, True, False, True),
        (True, True, True, False),
        (False, False, True, False),
        (False, True, False, False),
    ],
)
def test_cleanup_is_automatic_when_enabled_and_not_in_debug_mode(
    enabled: bool, debug: bool, disables: bool, automatic: bool
) -> None:
    cleanup = CleanupSettings(enabled=enabled, debug_mode_disables=disables)
    assert Settings(debug=debug, cleanup=cleanup).automatic_cleanup is automatic


# --- what a file can say


def test_every_key_can_be_set(write: WriteConfig) -> None:
    loaded = load_settings(
        write(
            """
debug: true
cleanup:
  enabled: false
  retention_hours: 1.5
  failed_retention_hours: 48
  file_types_to_clean: [temp_slide]
  keep_unlinked: [temp_audio]
  preserve_on_failure: false
  debug_mode_disables: false
  min_free: 5%
  min_free_overrides_retention: true
jobs: {roots: ["*/*", "lone"], default_type: long_form, status_names: plain}
directories:
  lazy: false
  types:
    short_form: {slides: ko/slides, shorts: shorts/}
classify:
  - {match: "*.wav", type: temp_audio}
  - {match: "*.mkv", type: final_video, job_types: [long_form]}
"""
        )
    )
    assert loaded.settings.debug is True
    assert loaded.settings.cleanup == CleanupSettings(
        enabled=False,
        retention_hours=1.5,
        failed_retention_hours=48,
        file_types_to_clean=frozenset({FileType.TEMP_SLIDE}),
        keep_unlinked=frozenset({FileType.TEMP_AUDIO}),
        preserve_on_failure=False,
        debug_mode_disables=False,
        min_free=MinFree(5, is_percent=True),
        min_free_overrides_retention=True,
    )
    assert loaded.settings.jobs == JobSettings(
        roots=("*/*", "lone"), default_type=JobType.LONG_FORM, status_names=StatusNames.PLAIN
    )
    assert loaded.settings.directories.lazy is False
    assert loaded.settings.directories.types == {
        JobType.SHORT_FORM: {DirectoryType.SLIDES: "ko/slides", DirectoryType.SHORTS: "shorts"}
    }
    assert loaded.settings.classify == (
        Rule(match="*.wav", type=FileType.TEMP_AUDIO),
        Rule(match="*.mkv", type=FileType.FINAL_VIDEO, job_types=frozenset({JobType.LONG_FORM})),
    )


def test_settings_do_not_change_once_made() -> None:
    with pytest.raises(pydantic.ValidationError):
        Settings().debug = True


def test_the_policy_in_a_manifest_is_that_of_the_settings() -> None:
    policy = CleanupSettings(retention_hours=2, file_types_to_clean=frozenset({FileType.TEMP_AUDIO})).policy
    assert policy.to_dict() == {
        "enabled": True,
        "retention_hours": 2,
        "file_types_to_clean": ["temp_audio"],
        "preserve_on_failure": True,
        "debug_mode_disables": True,
    }


@pytest.mark.parametrize(
    ("text", "hours"), [("7", 7), ("0", 0), ("0.5", 0.5), ("1e2", 100), ("876600", 876600)]
)
def test_hours_are_numbers_whole_or_not(write: WriteConfig, text: str, hours: float) -> None:
    assert (
        load_settings(write(f"cleanup: {{retention_hours: {text}}}")).settings.cleanup.retention_hours
        == hours
    )


@pytest.mark.parametrize(
    ("text", "bytes_needed_of_1000"),
    [("10GiB", 10 * 1024**3), ("500MB", 500_000_000), ("4096", 4096), ("5%", 50), ('"5%"', 50)],
)
def test_free_space_is_a_size_or_a_share(write: WriteConfig, text: str, bytes_needed_of_1000: int) -> None:
    min_free = load_settings(write(f"cleanup: {{min_free: {text}}}")).settings.cleanup.min_free
    assert min_free is not None
    assert min_free.needed_bytes(1000) == bytes_needed_of_1000


# --- mistakes: file, line, key, what is allowed


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("debgu: true", 1, "debgu", "did you mean debug?"),
        ("cleanup:\n  retention_hour: 5", 2, "cleanup.retention_hour", "did you mean retention_hours?"),
        ("\nretention_hours: 5", 2, "retention_hours", "did you mean cleanup.retention_hours?"),
        ("cleanup.enabled: true", 1, "cleanup.enabled", "unknown key"),
        ("zzz: 1", 1, "zzz", "allowed: debug, cleanup, jobs, directories, manifest, classify"),
        ("<<: {debug: true}", 1, "<<", "unknown key"),
        ("1: 2", 1, "1", "unknown key"),
        ("debug: 'yes'", 1, "debug", "true or false, not 'yes'"),
        ("debug: 1", 1, "debug", "true or false, not 1"),
        ("debug:", 1, "debug", "true or false"),
        ("cleanup: 5", 1, "cleanup", "must be a mapping of keys (enabled, "),
        ("cleanup: []", 1, "cleanup", "must be a mapping"),
        ("cleanup:\n  retention_hours: -1", 2, "cleanup.retention_hours", "from 0 to 876600"),
        ("cleanup:\n  retention_hours: .nan", 2, "cleanup.retention_hours", "from 0 to 876600"),
        ("cleanup:\n  retention_hours: .inf", 2, "cleanup.retention_hours", "from 0 to 876600"),
        ("cleanup:\n  retention_hours: 1e999", 2, "cleanup.retention_hours", "from 0 to 876600"),
        ("cleanup:\n  retention_hours: 876601", 2, "cleanup.retention_hours", "from 0 to 876600"),
        ("cleanup:\n  retention_hours: '24'", 2, "cleanup.retention_hours", "a number of hours"),
        ("cleanup:\n  retention_hours: true", 2, "cleanup.retention_hours", "a number of hours"),
        ("cleanup:\n  retention_hours: 1:30", 2, "cleanup.retention_hours", "a number of hours"),
        ("cleanup:\n  retention_hours: 010", 2, "cleanup.retention_hours", "a number of hours"),
        ("cleanup:\n  retention_hours: null", 2, "cleanup.retention_hours", "a number of hours"),
        ("cleanup:\n  failed_retention_hours: -1", 2, "cleanup.failed_retention_hours", "from 0 to"),
        (
            "cleanup:\n  file_types_to_clean:\n  - temp_audio\n  - temp_vido",
            4,
            "cleanup.file_types_to_clean[1]",
            "did you mean temp_video?",
        ),
        ("cleanup:\n  file_types_to_clean: temp_audio", 2, "cleanup.file_types_to_clean", "must be a list"),
        (
            "cleanup:\n  file_types_to_clean: [final_video]",
            2,
            "cleanup.file_types_to_clean",
            "final_video is never cleaned automatically; allowed: temp_video, temp_slide, temp_expression, ",
        ),
        ("cleanup:\n  file_types_to_clean: [other]", 2, "cleanup.file_types_to_clean", "never cleaned"),
        ("cleanup:\n  keep_unlinked: [metadata]", 2, "cleanup.keep_unlinked", "never cleaned"),
        ("cleanup:\n  min_free: lots", 2, "cleanup.min_free", "10GiB"),
        ("cleanup:\n  min_free: 120%", 2, "cleanup.min_free", "from 0% to 100%"),
        ("cleanup:\n  min_free: true", 2, "cleanup.min_free", "5%"),
        ("cleanup:\n  min_free: -1", 2, "cleanup.min_free", "5%"),
        ("jobs:\n  roots: '*'", 2, "jobs.roots", "must be a list"),
        ("jobs:\n  roots: ['*', '**']", 2, "jobs.roots[1]", "** is not allowed"),
        ("jobs:\n  roots: ['a**b']", 2, "jobs.roots[0]", "** is not allowed"),
        ("jobs:\n  roots: ['/a']", 2, "jobs.roots[0]", "absolute"),
        ("jobs:\n  roots: ['']", 2, "jobs.roots[0]", "empty"),
        ("jobs:\n  roots: ['a//b']", 2, "jobs.roots[0]", "empty component"),
        ("jobs:\n  roots: ['a/']", 2, "jobs.roots[0]", "empty component"),
        ("jobs:\n  roots: ['../*']", 2, "jobs.roots[0]", ".."),
        ("jobs:\n  roots: ['.lffs/*']", 2, "jobs.roots[0]", ".lffs"),
        ("jobs:\n  roots: [5]", 2, "jobs.roots[0]", "must be text"),
        ("jobs:\n  default_type: shortform", 2, "jobs.default_type", "did you mean short_form?"),
        ("jobs:\n  status_names: both", 2, "jobs.status_names", "allowed: suffix, plain"),
        (
            "directories:\n  types: {shrt_form: {}}",
            2,
            "directories.types.shrt_form",
            "did you mean short_form?",
        ),
        (
            "directories:\n  types:\n    short_form:\n      slide: x",
            4,
            "directories.types.short_form.slide",
            "did you mean slides?",
        ),
        (
            "directories:\n  types:\n    short_form:\n      slides: /x",
            4,
            "directories.types.short_form.slides",
            "absolute",
        ),
        (
            "directories:\n  types:\n    short_form: {slides: a/../../b}",
            3,
            "directories.types.short_form.slides",
            "..",
        ),
        ("directories:\n  types: {short_form: x}", 2, "directories.types.short_form", "mapping"),
        ("directories:\n  types: []", 2, "directories.types", "mapping"),
        ("classify: {}", 1, "classify", "must be a list"),
        ("classify:\n- {match: a, type: log}\n- {match: a}", 3, "classify[1].type", "is missing"),
        ("classify:\n- type: log\n  match: '!a'", 3, "classify[0].match", "leading !"),
        ("classify:\n- {match: '', type: log}", 2, "classify[0].match", "matches nothing"),
        ("classify:\n- {match: '[z-a]', type: log}", 2, "classify[0].match", "bad character range"),
        ("classify:\n- {match: a, type: lgo}", 2, "classify[0].type", "did you mean log?"),
        ("classify:\n- {match: a, type: log, typ: log}", 2, "classify[0].typ", "did you mean type?"),
        (
            "classify:\n- {match: a, type: log, job_types: [x]}",
            2,
            "classify[0].job_types[0]",
            "allowed: short_form",
        ),
        ("classify:\n- 5", 2, "classify[0]", "mapping"),
        ("debug: true\ndebug: false", 2, "debug", "given twice, first in line 1"),
        ("cleanup:\n  enabled: true\n  enabled: true", 3, "cleanup.enabled", "given twice, first in line 2"),
        ("debug: !!python/object/apply:os.getcwd []", 1, "debug", "not allowed"),
        ("debug: !mine x", 1, "debug", "not allowed"),
        ("a: [1,\nb: 2", 2, "", "not valid YAML"),
        ("a\n  b: c:\n\td", 2, "", "not valid YAML"),
        ("a: 1\n---\nb: 2", 2, "", "not valid YAML"),
        ("[1, 2]", 1, "", "must be a mapping of keys"),
        ("just text", 1, "", "must be a mapping of keys"),
        ("? [a]\n: b", 1, "", "a key must be a word"),
    ],
)
def test_a_mistake_is_named_with_file_line_key_and_what_is_allowed(
    write: WriteConfig, text: str, line: int, key: str, says: str
) -> None:
    file = write(text)
    message = complaint(file)
    assert message.startswith(f"{file}:{line}: {key}{':' if key else ''}"), message
    assert says in message
    assert "\n" not in message


def test_all_mistakes_are_named_at_once(write: WriteConfig) -> None:
    file = write("debug: 5\njobs:\n  roots: ['/x', '**']\ncleanup:\n  nosuch: 1\n")
    message = complaint(file, {"LFFS_CLEANUP__ENABLED": "maybe", "LFFS_CLEANUP__NO": "1"}, {"a.b": 1})
    for part in (
        f"{file}:1: debug:",
        f"{file}:3: jobs.roots[0]:",
        f"{file}:3: jobs.roots[1]:",
        f"{file}:5: cleanup.nosuch:",
        "environment LFFS_CLEANUP__ENABLED: cleanup.enabled:",
        "environment LFFS_CLEANUP__NO:",
        "command line: a.b:",
    ):
        assert part in message
    assert len(message.splitlines()) == 7


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    assert "No such file" in complaint(tmp_path / "none.yaml")
    assert str(tmp_path / "none.yaml") in complaint(tmp_path / "none.yaml")
    assert "directory" in complaint(tmp_path)


def test_what_is_not_utf8_is_named_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "latin1.yaml"
    file.write_bytes(b"debug: true\n# caf\xe9\n")
    assert complaint(file).startswith(f"{file}:2: not UTF-8")


def test_control_characters_are_named_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "bell.yaml"
    file.write_bytes(b"debug: true\n\n# \x07\n")
    assert complaint(file).startswith(f"{file}:3: not valid YAML")


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "a: &a {b: *a}",
        "[" * 5000,
        "classify: " + "[" * 50 + "]" * 50,
        '"\\ud800": 1',
        'jobs: "\\udfff"',
    ],
)
def test_what_would_be_endless_or_no_text_is_refused(write: WriteConfig, text: str) -> None:
    complaint(write(text))


def test_aliases_of_aliases_are_refused_before_they_fill_the_memory(write: WriteConfig) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    complaint(write("\n".join(lines)))


# --- layers


def test_the_command_line_wins_over_the_environment_over_the_file_over_the_defaults(
    write: WriteConfig,
) -> None:
    file = write("cleanup:\n  retention_hours: 1\n  enabled: false\njobs:\n  status_names: plain\n")
    loaded = load_settings(
        file,
        {"LFFS_CLEANUP__RETENTION_HOURS": "2", "LFFS_CLEANUP__ENABLED": "true"},
        {"cleanup.retention_hours": 3},
    )
    assert loaded.settings.cleanup.retention_hours == 3
    assert loaded.settings.cleanup.enabled is True
    assert loaded.settings.jobs.status_names is StatusNames.PLAIN
    assert loaded.settings.jobs.roots == ("*",)
    assert loaded.sources["cleanup.retention_hours"] == "command line"
    assert loaded.sources["cleanup.enabled"] == "environment LFFS_CLEANUP__ENABLED"
    assert loaded.sources["jobs.status_names"] == f"{file}:5"
    assert loaded.sources["jobs.roots"] == "default"


def test_a_list_replaces_the_one_before(write: WriteConfig) -> None:
    loaded = load_settings(write("classify:\n- {match: a, type: log}\n"))
    assert loaded.settings.classify == (Rule(match="a", type=FileType.LOG),)


@pytest.mark.parametrize(("text", "debug"), [("1", True), ("0", False), ("true", True), ("", False)])
def test_debug_mode_is_switched_by_the_environment(text: str, debug: bool) -> None:
    assert load_settings(None, {"LFFS_DEBUG": text}).settings.debug is debug


def test_an_empty_variable_counts_as_unset(write: WriteConfig) -> None:
    """Compose files pass on variables that nobody set."""
    assert load_settings(write("debug: true"), {"LFFS_DEBUG": ""}).settings.debug is True


def test_a_variable_holds_yaml() -> None:
    cleanup = load_settings(
        None,
        {
            "LFFS_CLEANUP__FILE_TYPES_TO_CLEAN": "[temp_audio]",
            "LFFS_CLEANUP__ENABLED": "0",
            "LFFS_CLEANUP__MIN_FREE": "5%",
            "LFFS_CLEANUP__FAILED_RETENTION_HOURS": "null",
        },
    ).settings.cleanup
    assert cleanup.file_types_to_clean == {FileType.TEMP_AUDIO}
    assert cleanup.enabled is False
    assert cleanup.min_free == MinFree(5, is_percent=True)
    assert cleanup.failed_retention_hours is None


@pytest.mark.parametrize(
    ("variable", "text", "says"),
    [
        ("LFFS_DEBUG", "2", "true or false"),
        ("LFFS_CLEANUP__RETENTION_HOURS", "soon", "a number of hours"),
        ("LFFS_CLEANUP__RETENTION_HOURS", "1", ""),
        ("LFFS_CLEANUP_RETENTION_HOURS", "1", "did you mean LFFS_CLEANUP__RETENTION_HOURS?"),
        ("LFFS_CLEANUP__RETENTION_HOUR", "1", "did you mean LFFS_CLEANUP__RETENTION_HOURS?"),
        ("LFFS_JOBS__ROOTS", "*/*", "not valid YAML"),
        ("LFFS_JOBS__ROOTS", "['/a']", "absolute"),
    ],
)
def test_a_mistake_in_the_environment_names_the_variable(variable: str, text: str, says: str) -> None:
    if not says:
        load_settings(None, {variable: text})
        return
    message = complaint(None, {variable: text})
    assert message.startswith(f"environment {variable}:")
    assert says in message


def test_variables_of_others_are_left_alone() -> None:
    environ = {"LFFS_STATE": "x", "LFFS_JOB": "x", "PATH": "/bin", "LFFS_": "", "CLEANUP__ENABLED": "0"}
    assert load_settings(None, environ).settings == Settings()


def test_overrides_are_values_or_text_as_in_yaml() -> None:
    loaded = load_settings(
        None,
        {},
        {
            "jobs.status_names": "plain",
            "jobs.roots": ("*/*",),
            "cleanup.retention_hours": "0",
            "cleanup.keep_unlinked": TEMPORARY_TYPES,
            "jobs.default_type": JobType.LONG_FORM,
        },
    )
    assert loaded.settings.jobs == JobSettings(
        roots=("*/*",), default_type=JobType.LONG_FORM, status_names=StatusNames.PLAIN
    )
    assert loaded.settings.cleanup == CleanupSettings(retention_hours=0, keep_unlinked=TEMPORARY_TYPES)


def test_a_mistake_on_the_command_line_names_the_key() -> None:
    assert complaint(None, {}, {"jobs.status_name": "plain"}).startswith("command line: jobs.status_name:")
    assert "did you mean jobs.status_names?" in complaint(None, {}, {"jobs.status_name": "plain"})
    assert complaint(None, {}, {"jobs.status_names": "x"}).startswith("command line: jobs.status_names:")


def test_a_mistake_counts_even_where_a_later_layer_overrides_it(write: WriteConfig) -> None:
    """The day that the variable is gone the file would be refused."""
    assert "debug" in complaint(write("debug: maybe"), {"LFFS_DEBUG": "1"})


def test_names_that_are_not_utf8_are_no_values_on_the_command_line() -> None:
    assert complaint(None, {}, {"jobs.roots": [os.fsdecode(b"\xff")]}).startswith("command line:")
    assert complaint(None, {}, {"jobs.default_type": os.fsdecode(b"\xff")}).startswith("command line:")


# --- showing


@pytest.mark.parametrize("profile", ["default", "langflix"])
def test_what_is_shown_is_a_configuration_that_loads_to_the_same(profile: str, write: WriteConfig) -> None:
    loaded = load_settings(find_profile(profile))
    tree: dict[str, object] = {}
    for key, value, _ in show_settings(loaded):
        section, _, name = key.rpartition(".")
        part = tree.setdefault(section, {}) if section else tree
        assert isinstance(part, dict)
        part[name] = value
    assert load_settings(write(yaml.safe_dump(tree))).settings == loaded.settings


def test_shown_values_are_plain_and_in_a_fixed_order() -> None:
    shown = {
        key: value for key, value, _ in show_settings(load_settings(None, {}, {"cleanup.min_free": "5%"}))
    }
    assert shown["cleanup.file_types_to_clean"] == [
        "temp_video",
        "temp_slide",
        "temp_expression",
        "temp_audio",
        "temp_subtitle",
    ]
    assert shown["cleanup.min_free"] == "5%"
    assert list(shown)[:3] == ["debug", "cleanup.enabled", "cleanup.retention_hours"]


# --- whatever is thrown at it

keys = [
    "debug", "cleanup", "jobs", "directories", "classify", "enabled", "retention_hours",
    "file_types_to_clean", "keep_unlinked", "min_free", "roots", "default_type", "status_names", "lazy",
    "types", "match", "type", "job_types", "short_form", "slides", "temp_audio",
]  # fmt: skip
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([*keys, "*", "*/*", "5%", "log", "plain", "[[:a:]]"])
)
trees = st.recursive(
    leaves,
    lambda children: (
        st.lists(children, max_size=4)
        | st.dictionaries(st.sampled_from(keys) | st.text(max_size=3), children, max_size=5)
    ),
    max_leaves=20,
)


def loads_or_is_refused(load: Callable[[], LoadedSettings]) -> None:
    try:
        loaded = load()
    except ConfigError:
        return
    assert isinstance(loaded.settings, Settings)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees)
def test_any_yaml_gives_settings_or_a_config_error(tmp_path: Path, tree: object) -> None:
    file = tmp_path / "any.yaml"
    file.write_text(yaml.safe_dump(tree, allow_unicode=False), encoding="utf-8")
    loads_or_is_refused(lambda: load_settings(file))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text("ab:-[]{}&*!|>'\"\n #%@,?\t", max_size=40).map(os.fsencode))
def test_any_bytes_give_settings_or_a_config_error(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "any.yaml"
    file.write_bytes(content)
    loads_or_is_refused(lambda: load_settings(file))


@given(
    st.dictionaries(
        st.sampled_from(
            ["LFFS_DEBUG", "LFFS_CLEANUP__ENABLED", "LFFS_JOBS__ROOTS", "LFFS_CLASSIFY", "LFFS_JOBS_X"]
        ),
        st.text(max_size=10) | trees.map(lambda tree: yaml.safe_dump(tree, default_flow_style=True)),
    ),
    st.dictionaries(
        st.sampled_from(["debug", "jobs.roots", "cleanup.min_free", "directories.types", "x"]), trees
    ),
)
def test_any_environment_and_overrides_give_settings_or_a_config_error(
    environ: dict[str, str], overrides: dict[str, object]
) -> None:
    loads_or_is_refused(lambda: load_settings(None, environ, overrides))
