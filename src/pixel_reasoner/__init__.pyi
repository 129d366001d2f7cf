# What the package exports. `__init__.py` reads this file: a name is imported when it is first used.

from .api import (
    EvalSpec as EvalSpec,
)
from .api import (
    LabellerSpec as LabellerSpec,
)
from .api import (
    ModelSpec as ModelSpec,
)
from .api import (
    RlRun as RlRun,
)
from .api import (
    SftRun as SftRun,
)
from .api import (
    SynthSpec as SynthSpec,
)
from .api import (
    WorldSpec as WorldSpec,
)
from .api import (
    ask as ask,
)
from .api import (
    ask_many as ask_many,
)
from .api import (
    compare as compare,
)
from .api import (
    evaluate as evaluate,
)
from .api import (
    load as load,
)
from .api import (
    probe as probe,
)
from .api import (
    report as report,
)
from .api import (
    synthesize as synthesize,
)
from .api import (
    train_rl as train_rl,
)
from .api import (
    train_sft as train_sft,
)
from .dialects.parse import (
    ParsedTurn as ParsedTurn,
)
from .errors import (
    CancelledError as CancelledError,
)
from .errors import (
    DeadlineError as DeadlineError,
)
from .errors import (
    EndpointError as EndpointError,
)
from .errors import (
    InputError as InputError,
)
from .errors import (
    ModelError as ModelError,
)
from .errors import (
    OutputError as OutputError,
)
from .errors import (
    PixelReasonerError as PixelReasonerError,
)
from .errors import (
    UsageError as UsageError,
)
from .media.context import (
    MediaContext as MediaContext,
)
from .model import (
    Model as Model,
)
from .models.scripted import (
    ScriptedModel as ScriptedModel,
)
from .operations.base import (
    CallRejected as CallRejected,
)
from .operations.base import (
    MediaKind as MediaKind,
)
from .operations.base import (
    OperationSpec as OperationSpec,
)
from .operations.registry import (
    operation as operation,
)
from .replies import (
    extract_answer as extract_answer,
)
from .replies import (
    grade as grade,
)
from .replies import (
    parse_reply as parse_reply,
)
from .rollout.request import (
    RolloutHandle as RolloutHandle,
)
from .schema.events import (
    CallParsed as CallParsed,
)
from .schema.events import (
    Event as Event,
)
from .schema.events import (
    Failed as Failed,
)
from .schema.events import (
    Finished as Finished,
)
from .schema.events import (
    GeneratedText as GeneratedText,
)
from .schema.events import (
    Observed as Observed,
)
from .schema.events import (
    PartDelta as PartDelta,
)
from .schema.events import (
    TurnDone as TurnDone,
)
from .schema.events import (
    TurnStarted as TurnStarted,
)
from .schema.geometry import (
    Box as Box,
)
from .schema.question import (
    AnswerType as AnswerType,
)
from .schema.question import (
    Evidence as Evidence,
)
from .schema.question import (
    MediaItem as MediaItem,
)
from .schema.question import (
    Question as Question,
)
from .schema.settings import (
    MediaLimits as MediaLimits,
)
from .schema.settings import (
    PixelBudget as PixelBudget,
)
from .schema.settings import (
    PixelBudgets as PixelBudgets,
)
from .schema.settings import (
    RolloutConfig as RolloutConfig,
)
from .schema.settings import (
    RolloutLimits as RolloutLimits,
)
from .schema.settings import (
    SamplingParams as SamplingParams,
)
from .schema.trace import (
    Observation as Observation,
)
from .schema.trace import (
    Picture as Picture,
)
from .schema.trace import (
    Step as Step,
)
from .schema.trace import (
    StopReason as StopReason,
)
from .schema.trace import (
    ToolCall as ToolCall,
)
from .schema.trace import (
    Trace as Trace,
)
from .schema.trace import (
    Turn as Turn,
)
from .schema.trace import (
    load_traces as load_traces,
)
from .schema.trace import (
    save_traces as save_traces,
)
from .scoring.grading import (
    Grade as Grade,
)
from .scoring.grading import (
    Outcome as Outcome,
)
from .scoring.grading import (
    Scorer as Scorer,
)

__version__: str
