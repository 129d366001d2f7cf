"""Rows of an inspection: verdict, findings, and everything that an auditor needs."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from pixel_reasoner import __version__
from pixel_reasoner.files import write_json
from pixel_reasoner.models.api import GenerationModel
from pixel_reasoner.schema.settings import RolloutConfig
from pixel_reasoner.workflows.inspection.decide import (
    Decided,
    decide_by_score,
    decide_early,
    proposed,
)
from pixel_reasoner.workflows.inspection.dialogue import Conversation
from pixel_reasoner.workflows.inspection.examine import Examined
from pixel_reasoner.workflows.inspection.library import GoldenLibrary
from pixel_reasoner.workflows.inspection.spec import InspectionSpec
from pixel_reasoner.workflows.inspection.verdicts import (
    Audit,
    InspectionRow,
    Verdict,
    worst,
)

GOLDEN_FILE = "golden.json"
PROGRAM = f"pixel-reasoner {__version__}"


class ResultRows:
    """Makes rows. One object per run: hashes of model and specification are computed once."""

    def __init__(
        self, spec: InspectionSpec, model: GenerationModel | None, config: RolloutConfig
    ) -> None:
        self.spec = spec
        self.has_model = model is not None
        self.model_description: dict[str, Any] = {}
        self._model_sha256 = ""
        if model is not None:
            self.model_description = model.describe().model_dump(mode="json")
            text = model.describe().model_dump_json() + config.model_dump_json()
            self._model_sha256 = sha256(text.encode()).hexdigest()
        self._spec_sha256 = spec.sha256()

    def without_model(self, examined: Examined, first: str) -> dict[str, Any]:
        """Return the row of a photo whose score decides."""
        decided = decide_early(examined) or decide_by_score(examined, self.spec)
        return self._row(examined, first, decided)

    def early(self, examined: Examined, first: str) -> dict[str, Any] | None:
        """Return the row of a photo that the model does not have to see; None for all others."""
        decided = decide_early(examined)
        if decided is None and examined.score is not None and not examined.proposals:
            decided = Decided(Verdict.OK, f"nothing differs: score {examined.score:.2f}")
        return None if decided is None else self._row(examined, first, decided)

    def with_model(self, conversation: Conversation, decided: Decided) -> dict[str, Any]:
        """Return the row of a photo that the model has seen."""
        seconds = sum(trace.seconds for trace in conversation.traces)
        return self._row(
            conversation.examined,
            conversation.first,
            decided,
            agreement=round(conversation.agreement, 4),
            trace_ids=tuple(dict.fromkeys(trace.question.id for trace in conversation.traces)),
            model_seconds=seconds,
        )

    def golden_notes(self, library: GoldenLibrary, out: Path) -> None:
        """Write what the check of the golden pictures against each other found."""
        sets = [
            {
                "category": key[0],
                "view": key[1],
                "notes": list(library.notes[key]),
                "self_scores": library.self_scores[key],
            }
            for key in sorted(library.notes)
        ]
        if sets:
            write_json({"golden_sets": sets}, out / GOLDEN_FILE)

    def _row(
        self,
        examined: Examined,
        first: str,
        decided: Decided,
        *,
        agreement: float | None = None,
        trace_ids: tuple[str, ...] = (),
        model_seconds: float = 0.0,
    ) -> dict[str, Any]:
        sample, size = examined.sample, examined.size
        serious = [one for one in decided.findings if not one.is_tolerated]
        row = InspectionRow(
            id=sample.id,
            path=str(sample.path.absolute()),
            category=sample.category,
            part=sample.part,
            view=sample.view,
            verdict=decided.verdict,
            reason=decided.reason,
            severity=worst(one.severity for one in serious),
            score=examined.score,
            findings=decided.findings,
            proposals=proposed(examined, self.spec) if size else (),
            width=size[0] if size else None,
            height=size[1] if size else None,
            smallest_px=examined.smallest_px,
            placed=examined.placed,
            label=sample.label,
            label_class=sample.defect_class,
            split=sample.split,
            mask=str(sample.mask.absolute()) if sample.mask else "",
            agreement=agreement,
            num_decoys=sum(one.is_decoy for one in examined.proposals),
            num_accepted_decoys=decided.num_accepted_decoys,
            duplicate_of=first,
            notes=(*examined.notes, *self._class_notes(sample.defect_class)),
            trace_ids=trace_ids,
            audit=Audit(
                photo_sha256=examined.sha256,
                spec_sha256=self._spec_sha256,
                model_sha256=self._model_sha256 if trace_ids else "",
                reference_sha256=examined.reference_sha256,
                program=PROGRAM,
                time=datetime.now(UTC).isoformat(timespec="seconds"),
                seconds=round(examined.seconds + model_seconds, 4),
            ),
            error=decided.reason if decided.verdict is Verdict.ERROR else None,
        )
        return row.model_dump(mode="json")

    def _class_notes(self, name: str) -> tuple[str, ...]:
        if name and self.spec.defects and self.spec.defect_class(name) is None:
            return (f"the class {name!r} of the data set is not in the specification",)
        return ()
