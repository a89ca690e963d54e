"""Site profiles: the bundled ones load, and every mistake is named with its file and key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from screening import configs
from screening.configs import config_dir
from screening.errors import ConfigError
from screening.result import Reason
from screening.site import Rule, load_site, pseudonym

MINIMAL = {
    "name": "a-site",
    "description": "A hospital.",
    "sop_classes": [{"uid": "DigitalMammographyXRayImageStorageForPresentation"}],
    "view": [{"attribute": "ViewPosition"}],
    "laterality": [{"attribute": "ImageLaterality"}],
}


def write(tmp_path: Path, **changes: object) -> Path:
    path = tmp_path / "a-site.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, **changes}), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(config_dir("sites").glob("*.yaml")), ids=lambda path: path.stem)
def test_bundled_profile_loads_and_is_named_after_its_file(path: Path) -> None:
    assert load_site(path).name == path.stem == load_site(path.stem).name


def test_default_profile_is_what_no_name_loads() -> None:
    assert load_site(None) == load_site("default")


def test_profiles_come_from_the_package_where_they_are_installed_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_configs" / "sites").mkdir(parents=True)
    monkeypatch.setattr(configs, "_PACKAGE", tmp_path)
    assert config_dir("sites") == tmp_path / "_configs" / "sites"
    assert config_dir("protocols") == tmp_path.parent / "configs" / "protocols"


def test_minimal_profile_has_the_documented_defaults(tmp_path: Path) -> None:
    profile = load_site(write(tmp_path))
    assert [rule.attribute for rule in profile.exam] == ["StudyInstanceUID"]
    assert [rule.attribute for rule in profile.woman] == ["PatientID"]
    assert profile.sop_classes[0].uid == "1.2.840.10008.5.1.4.1.1.1.2"
    assert profile.sop_classes[0].modalities == ("MG",)
    assert not profile.reject.implants
    assert profile.pixel_spacing.default_mm is None


MISTAKES = [
    ({"colour": "red"}, "colour is no key of a site profile"),
    ({"reject": {"implant": True}}, "reject.implant is no key of a site profile"),
    ({"reject": {"implants": "yes"}}, "reject.implants: .*boolean"),
    ({"reject": {"modifiers": ["sideways"]}}, "reject.modifiers.0: .*magnification"),
    ({"view": [{"attribute": "ViewPosition", "pattern": "(CC"}]}, "view.0.pattern: is no valid regular expression"),
    (
        {"view": [{"attribute": "ViewPosition"}, {"attribute": "Viewpoint"}]},
        "view.1.attribute: 'Viewpoint' is no DICOM",
    ),
    ({"view": [{"pattern": "CC"}]}, "view.0.attribute: Field required"),
    ({"view": []}, "view: .*at least 1"),
    ({"view": "CC"}, "view: "),
    ({"sop_classes": [{"uid": "Mammogram"}]}, "sop_classes.0.uid: 'Mammogram' is neither a UID nor the keyword"),
    ({"exclude": [{"attribute": "SeriesDescription", "pattern": "x"}]}, "exclude.0.sentence: Field required"),
    (
        {"exclude": [{"attribute": "ViewPosition", "pattern": "x", "sentence": "s", "code": "dull"}]},
        "exclude.0.code: .*not-dicom",
    ),
    ({"pixel_spacing": {"default_mm": "0.05"}}, "pixel_spacing.default_mm: .*number"),
    ({"pixel_spacing": {"default_mm": 50}}, "pixel_spacing.default_mm: .*less than or equal to 1"),
    ({"name": "../etc"}, "name: "),
    ({"pseudonym_key_env": "A KEY"}, "pseudonym_key_env: "),
    ({"operating_point": 3}, "operating_point: .*string"),
]


@pytest.mark.parametrize(("changes", "sentence"), MISTAKES)
def test_mistake_is_named_with_file_and_key(tmp_path: Path, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_site(write(tmp_path, **changes))
    assert str(tmp_path / "a-site.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_mistakes_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"colour is no key.*taste is no key"):
        load_site(write(tmp_path, colour="red", taste="sweet"))


@pytest.mark.parametrize("content", ["- a\n- list\n", "", "name: [unclosed", "a: b: c"])
def test_file_that_is_no_mapping_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"odd\.yaml (must be a mapping|is no valid YAML)"):
        load_site(path)


def test_python_objects_are_not_made_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="is no valid YAML"):
        load_site(path)


def test_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no site profile 'nowhere'.*cbis-ddsm, default"):
        load_site("nowhere")


@pytest.mark.parametrize("site", ["missing.yaml", "folder/site", Path("missing")])
def test_missing_file_is_named(site: str | Path) -> None:
    with pytest.raises(ConfigError, match=f"{site} cannot be read"):
        load_site(site)


@pytest.mark.parametrize(
    ("rule", "value", "result"),
    [
        (Rule(attribute="PatientID"), "x-1", "x-1"),
        (Rule(attribute="PatientID", pattern=r"\d"), "x-1", "1"),
        (Rule(attribute="PatientID", pattern=r"(?P<value>[a-z])-\d"), "x-1", "x"),
        (Rule(attribute="PatientID", pattern=r"-", values={"-": "dash"}), "x-1", "dash"),
        (Rule(attribute="PatientID", pattern=r"z"), "x-1", ""),
        (Rule(attribute="PatientID", pattern=r"x(?P<value>z)?"), "x-1", ""),
    ],
)
def test_rule_takes_its_group_and_translates_it(rule: Rule, value: str, result: str) -> None:
    assert rule.apply(value) == result


def test_exclusion_may_give_a_reason_of_its_own(tmp_path: Path) -> None:
    exclusion = {"attribute": "SeriesDescription", "pattern": "scout", "sentence": "a scout", "code": "localiser"}
    assert load_site(write(tmp_path, exclude=[exclusion])).exclude[0].code is Reason.LOCALISER


def test_no_pseudonym_is_made_unless_asked_for(tmp_path: Path) -> None:
    assert load_site(write(tmp_path)).pseudonym_key() is None


@pytest.mark.parametrize("key", [None, "", "too short"])
def test_forgotten_key_is_an_error_and_no_leak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv("A_SITE_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("A_SITE_KEY", key)
    with pytest.raises(ConfigError, match="A_SITE_KEY, which holds no key of at least 16 characters"):
        load_site(write(tmp_path, pseudonym_key_env="A_SITE_KEY")).pseudonym_key()


def test_pseudonym_depends_on_identifier_and_key_alone() -> None:
    made = pseudonym("woman-1", b"a key of sixteen")
    assert made == pseudonym("woman-1", b"a key of sixteen")
    assert len({made, pseudonym("woman-2", b"a key of sixteen"), pseudonym("woman-1", b"another key of 16")}) == 3
    assert "woman" not in made
