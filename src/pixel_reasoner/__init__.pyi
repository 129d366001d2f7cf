# What the package exports. `__init__.py` reads this file: a name is imported when it is first used.

from .api import (
    EvalSpec as EvalSpec,
    LabellerSpec as LabellerSpec,
    LessonSpec as LessonSpec,
    ModelSpec as ModelSpec,
    MomentsSpec as MomentsSpec,
    PartsSpec as PartsSpec,
    RlRun as RlRun,
    SftRun as SftRun,
    SynthSpec as SynthSpec,
    WorldSpec as WorldSpec,
    ask as ask,
    ask_many as ask_many,
    compare as compare,
    evaluate as evaluate,
    load as load,
    load_lesson as load_lesson,
    make_lesson as make_lesson,
    probe as probe,
    report as report,
    synthesize as synthesize,
)
from .dialects.parsed_turn import (
    ParsedTurn as ParsedTurn,
)
from .errors import (
    CancelledError as CancelledError,
    DeadlineError as DeadlineError,
    EndpointError as EndpointError,
    InputError as InputError,
    ModelError as ModelError,
    OutputError as OutputError,
    PixelReasonerError as PixelReasonerError,
    PluginError as PluginError,
    StorageError as StorageError,
    UsageError as UsageError,
)
from .inspection_api import (
    Inspection as Inspection,
    InspectionRow as InspectionRow,
    InspectionSpec as InspectionSpec,
    inspect_photos as inspect_photos,
)
from .media.context import (
    MediaContext as MediaContext,
)
from .model import (
    Model as Model,
)
from .models.registry import (
    model_backend as model_backend,
)
from .models.scripted import (
    ScriptedModel as ScriptedModel,
)
from .moments_api import (
    Moment as Moment,
    SearchOptions as SearchOptions,
    VideoMoments as VideoMoments,
    find_moments as find_moments,
)
from .operations.base import (
    CallRejected as CallRejected,
    MediaKind as MediaKind,
    OperationSpec as OperationSpec,
)
from .operations.registry import (
    operation as operation,
)
from .replies import (
    extract_answer as extract_answer,
    grade as grade,
    parse_reply as parse_reply,
)
from .reports.sections import (
    report_section as report_section,
)
from .rollout.request import (
    RolloutHandle as RolloutHandle,
)
from .rollout.strategies import (
    strategy as strategy,
)
from .run import (
    Run as Run,
)
from .schema.events import (
    CallParsed as CallParsed,
    Event as Event,
    Failed as Failed,
    Finished as Finished,
    GeneratedText as GeneratedText,
    Observed as Observed,
    PartDelta as PartDelta,
    TurnDone as TurnDone,
    TurnStarted as TurnStarted,
)
from .schema.geometry import (
    Box as Box,
)
from .schema.media_url import (
    allow_media_urls as allow_media_urls,
)
from .schema.question import (
    AnswerType as AnswerType,
    Evidence as Evidence,
    MediaItem as MediaItem,
    Question as Question,
)
from .schema.settings import (
    MediaLimits as MediaLimits,
    PixelBudget as PixelBudget,
    PixelBudgets as PixelBudgets,
    RolloutConfig as RolloutConfig,
    RolloutLimits as RolloutLimits,
    SamplingParams as SamplingParams,
)
from .schema.trace import (
    Observation as Observation,
    Picture as Picture,
    Step as Step,
    StopReason as StopReason,
    ToolCall as ToolCall,
    Trace as Trace,
    Turn as Turn,
    load_traces as load_traces,
    save_traces as save_traces,
)
from .scoring.grading import (
    Grade as Grade,
    Outcome as Outcome,
    Scorer as Scorer,
)
from .scoring.rewards import (
    reward as reward,
)
from .sources.base import (
    source as source,
)
from .training import (
    train_rl as train_rl,
    train_sft as train_sft,
)
from .workflow_api import (
    SurveyQuestion as SurveyQuestion,
    SurveyRow as SurveyRow,
    survey as survey,
)

__version__: str
