"""In-context learning by gradient descent: a state-space layer that holds a model in its state.

    from eventbook.models.in_context import GDLayer, vector_tasks

GDLayer                   the layer: trainable, or set to the construction
construction              its parameters for K steps of gradient descent
ConstructedTokenLayer     the form for outputs of one number, products made beforehand
NonlinearGD               the layer between an embedding and a gated readout
tasks                     linear maps and sines to be learnt from their context
oracle                    explicit steps and least squares
closed_forms              the loss of the best layer, before anything is trained
agreement                 losses, predictions and sensitivities beside those of a step
attention                 the same step as linear self-attention
"""

from eventbook.models.in_context.agreement import Agreement, agreement
from eventbook.models.in_context.constructed_token import ConstructedTokenLayer, constructed_tokens
from eventbook.models.in_context.construction import Construction, construction
from eventbook.models.in_context.layer import Carried, GDLayer
from eventbook.models.in_context.nonlinear import NonlinearGD
from eventbook.models.in_context.tasks import Tasks, scalar_tasks, sine_tasks, tasks_of_rows, vector_tasks

__all__ = [
    "Agreement",
    "Carried",
    "ConstructedTokenLayer",
    "Construction",
    "GDLayer",
    "NonlinearGD",
    "Tasks",
    "agreement",
    "constructed_tokens",
    "construction",
    "scalar_tasks",
    "sine_tasks",
    "tasks_of_rows",
    "vector_tasks",
]
