"""Proposals of dialects: what a template shows is found by rendering it, and what it cannot show is a decision."""

from __future__ import annotations

import json
import shutil

import pytest

from cli_fixture import assert_refused
from family_templates import STAND_INS, TRL_HASHES, family_template, renderer, trl_template
from pixel_reasoner.dialects.conformance import assert_valid_dialect
from pixel_reasoner.dialects.proposal import (
    BOX_GRIDS,
    ModelFiles,
    processor_budgets,
    propose_dialect,
)
from pixel_reasoner.dialects.syntax.catalogue import CALL_SYNTAXES
from pixel_reasoner.dialects.template_check import assert_template_supports, thought_problem
from pixel_reasoner.dialects.template_facts import read_template
from pixel_reasoner.errors import ModelError
from pixel_reasoner.models.folder import BUNDLED_MODELS
from pixel_reasoner.models.template_folder import read_template_folder

pytestmark = [pytest.mark.extras]

SYNTAX_OF_TRL = {
    "qwen2_5_vl": None,
    "qwen3_vl": "hermes",
    **dict.fromkeys(("qwen3_5_think", "qwen3_5_nothink", "qwen3_6", "qwen3_8"), "function_xml"),
    "gemma3": None,
    **dict.fromkeys(("gemma4", *(f"gemma4_v{n}" for n in range(2, 6)), "diffusion_gemma"), "gemma"),
    **dict.fromkeys(("smolvlm", "idefics3", "llava_next"), None),
    "lfm2_2_5_vl": "lfm",
    "glm4moe": "glm",
    "muse_glimmer": "muse",
}
"""template of TRL -> calls that the family writes; None if it writes none"""
THOUGHTS_OF_TRL = {
    **dict.fromkeys(
        ("qwen3_5_think", "qwen3_6", "qwen3_8", "lfm2_2_5_vl", "glm4moe"), "THINK_TAGS"
    ),
    **dict.fromkeys(
        ("gemma4", "gemma4_v3", "gemma4_v4", "gemma4_v5", "diffusion_gemma"), "GEMMA_CHANNEL"
    ),
    "muse_glimmer": "MUSE_CHANNEL",
}
SYNTAX_OF_STAND_INS = {
    "glm4v": "glm",
    "glm5_next": "glm_compact",
    "kimi_k25": "kimi",
    "lfm3_vl": "lfm",
    "minicpmv4_6": "function_xml",
    "minimax_m3_vl": "minimax",
    "mistral3": "mistral",
    "step3p7": "function_xml",
}


@pytest.mark.parametrize("name", TRL_HASHES)
def test_the_syntax_and_thoughts_of_real_templates_are_found(name):
    facts = read_template(renderer(trl_template(name).text))
    assert facts.syntax == SYNTAX_OF_TRL[name]
    assert not facts.call_text
    assert facts.lists_tools == (SYNTAX_OF_TRL[name] is not None)
    if name in THOUGHTS_OF_TRL:
        assert facts.thought_tags == THOUGHTS_OF_TRL[name]
    assert facts.opens_thought == (name in ("qwen3_5_think", "qwen3_6", "qwen3_8"))


@pytest.mark.parametrize("name", [one for one in TRL_HASHES if one != "glm4moe"])
def test_the_proposal_is_carried_by_its_template_and_conforms(name):
    render = renderer(trl_template(name).text)
    proposal = propose_dialect(f"my_{name}", read_template(render), render, ModelFiles())
    dialect = proposal.dialect
    assert assert_valid_dialect(dialect, 20) <= 0.5
    assert_template_supports(render, dialect, name)
    keeps = dialect.carriage.keeps_thoughts
    assert keeps == (thought_problem(render, dialect) is None)
    assert ("carriage" in {one.field for one in proposal.decisions}) == (not keeps)
    expected = SYNTAX_OF_TRL[name] or "hermes"
    assert dialect.syntax == CALL_SYNTAXES[expected].syntax


@pytest.mark.parametrize("name", SYNTAX_OF_STAND_INS)
def test_the_syntax_of_other_families_is_found(name):
    assert (STAND_INS / f"{name}.jinja").exists()
    facts = read_template(renderer(family_template(name).text))
    assert facts.syntax == SYNTAX_OF_STAND_INS[name]
    assert facts.image_text


def test_a_template_without_pictures_has_no_proposal():
    render = renderer(trl_template("glm4moe").text)
    with pytest.raises(ModelError, match="leaves out pictures of the question"):
        propose_dialect("mine", read_template(render), render, ModelFiles())


def test_the_grid_is_always_a_decision_until_it_is_given():
    render = renderer(trl_template("qwen3_vl").text)
    facts = read_template(render)
    undecided = propose_dialect("mine", facts, render, ModelFiles())
    [grid] = [one for one in undecided.decisions if one.field == "grid"]
    assert [option.partition(":")[0] for option in grid.options] == list(BOX_GRIDS)
    for name, coordinates in BOX_GRIDS.items():
        decided = propose_dialect("mine", facts, render, ModelFiles(), grid=name)
        assert decided.dialect.grid == coordinates
        assert "grid" not in {one.field for one in decided.decisions}


def test_an_unknown_form_of_calls_is_shown_and_asked_about():
    text = (
        trl_template("qwen3_vl")
        .text.replace("<tool_call>", "<<do>>")
        .replace("</tool_call>", "<<done>>")
    )
    render = renderer(text)
    proposal = propose_dialect("mine", read_template(render), render, ModelFiles())
    [decision] = [one for one in proposal.decisions if one.field == "syntax"]
    assert "<<do>>" in decision.question
    assert "unknown form" in decision.question


@pytest.mark.parametrize(
    ("settings", "picture"),
    [
        (
            {"patch_size": 14, "merge_size": 2, "min_pixels": 3136, "max_pixels": 12845056},
            (3136, 12845056),
        ),
        (
            {
                "patch_size": 16,
                "merge_size": 2,
                "size": {"shortest_edge": 4096, "longest_edge": 1048576},
            },
            (4096, 1048576),
        ),
        ({"size": {"height": 448, "width": 448}, "max_patches": 12}, (224**2, 12 * 448**2)),
        ({"size": {"longest_edge": 1540}}, None),
        ({"patch_size": "14", "merge_size": None}, None),
        ({}, None),
    ],
)
def test_budgets_are_those_of_the_processor(settings, picture):
    found = processor_budgets(settings)
    if picture is None:
        assert found is None
    else:
        assert (found.value.picture.min_px, found.value.picture.max_px) == picture


# --- folders ---


@pytest.fixture
def folder(tmp_path):
    """Return a copy of the settings of the bundled model."""
    copy = tmp_path / "model"
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(BUNDLED_MODELS["tiny"], copy, ignore=ignored)
    return copy


def change(path, **values):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | values))


def test_a_template_is_found_in_each_place(folder):
    own = folder / "chat_template.jinja"
    text = own.read_text()
    expected = read_template_folder(folder).facts
    own.unlink()
    for name in ("tokenizer_config.json", "processor_config.json"):
        before = (folder / name).read_text()
        change(folder / name, chat_template=text)
        assert read_template_folder(folder).facts == expected
        (folder / name).write_text(before)
    with pytest.raises(
        ModelError, match=r"a folder with a chat template; got .* without chat_template\.jinja"
    ):
        read_template_folder(folder)


def test_unusable_folders_are_one_line(folder, tmp_path, run):
    def refused(*words):
        assert_refused(
            run("new", "dialect", "mine", "--from", folder, "--out", tmp_path / "out"), *words
        )
        assert not (tmp_path / "out").exists()

    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only text\nhere') }}")
    refused("raises TemplateError: only text here")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.wrong.key }}{% endfor %}"
    )
    refused("raises UndefinedError")
    (folder / "chat_template.jinja").write_text("{% if %}")
    refused("raises TemplateSyntaxError")
    (folder / "chat_template.jinja").write_text("{{ 'hello' }}")
    refused("one that leaves it out")
    (folder / "chat_template.jinja").write_text(
        template.replace("<|image_pad|>", "<unknown>")
        .replace("<|vision_start|>", "")
        .replace("<|vision_end|>", "")
    )
    refused("placeholder of a picture, '<unknown>'")
    (folder / "chat_template.jinja").write_text(template)
    processor = (folder / "processor_config.json").read_text()
    (folder / "processor_config.json").write_text("[1]")
    refused("a JSON object")
    (folder / "processor_config.json").unlink()
    refused("without settings of one in preprocessor_config.json or processor_config.json")
    (folder / "processor_config.json").write_text(processor)
    shutil.rmtree(folder)
    refused("which is none")


def test_the_written_package_has_the_proposed_dialect_and_the_lines_to_edit(folder, tmp_path, run):
    change(folder / "config.json", model_type="new_type")
    code, out, err = run("new", "dialect", "mine", "--from", folder, "--out", tmp_path / "out")
    assert code == 0, err
    module = (tmp_path / "out" / "pixel_reasoner_mine.py").read_text()
    namespace: dict = {}
    exec(compile(module, "mine", "exec"), namespace)
    assert namespace["DIALECT"].match.model_types == ("new_type",)
    assert assert_valid_dialect(namespace["DIALECT"], 20) <= 0.5
    numbers = [
        int(line.partition("line ")[2].partition(":")[0])
        for line in out.splitlines()
        if line.startswith("decide")
    ]
    assert len(numbers) == 3
    lines = module.splitlines()
    assert all("DECIDE" in lines[number - 1] for number in numbers)
    assert "conformance: passed" in out
    assert "thousandths_yx: 0 to 1000" in out


def test_a_decided_grid_is_not_asked_about_and_options_of_other_kinds_are_refused(
    folder, tmp_path, run
):
    code, out, err = run(
        "new",
        "dialect",
        "mine",
        "--from",
        folder,
        "--grid",
        "thousandths",
        "--out",
        tmp_path / "out",
    )
    assert code == 0, err
    assert "which unit and order" not in out
    assert "models of this type have a dialect already: qwen3_vl" in out
    assert_refused(
        run("new", "operation", "mine", "--from", folder, "--out", tmp_path / "b"), "--from"
    )
    assert_refused(
        run("new", "dialect", "mine", "--grid", "pixels", "--out", tmp_path / "c"), "--grid"
    )
