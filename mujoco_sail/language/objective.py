"""Objective of online alignment and its gradient T1 + T2 + anchor, estimated from samples.

    h(y) = log pi_theta(y|x) - log pi_ref(y|x),   implicit reward beta h
    J(theta)     = E_{x, y1, y2 ~ pi_theta, label ~ judge}[ log sigmoid(beta (h(y_w) - h(y_l))) ]
    J_off(theta) = the same with y1, y2 ~ pi_ref
    objective    = (1 - rho) J + rho J_off - gamma E_x KL(pi_ref || pi_theta)

    T1 = E[ grad log sigmoid(...) ]                                   over all pairs
    T2 = (1 - rho) E[ (log sigmoid(...) - b) sum_i grad log pi_theta(y_i|x) ]   over online pairs
    - grad KL(pi_ref || pi_theta) = E_{y ~ pi_ref}[ grad log pi_theta(y|x) ]    the anchor

A completion is one action, so T2 is exact for a judge that does not depend on the policy: no step
is truncated. b is the leave-one-out mean of the batch, whose pairs are independent. The teacher
`noisy` depends on the policy in one way, which the gradient leaves out: its unit is the root mean
square of the margins of the batch. Online DPO is T1 alone, SAIL T1 + T2. With a projection, the
parameters stay in the ball |theta - theta_ref| <= radius: a network's origin means nothing, unlike
that of a log-linear policy (`mujoco_sail.theory`), so the ball is around the reference.

Sources: SAIL (Ding et al. 2024, arXiv 2406.15567), SAIL-RevKL (Wu et al. 2026, arXiv 2606.31524).
"""

from dataclasses import dataclass

from torch import Tensor

from mujoco_sail.core.objectives import leave_one_out, log_likelihood, t1_t2_surrogates


@dataclass(frozen=True)
class Compared:
    """Pairs of completions with their labels.

    Attributes:
        policy: log pi_theta(y|x), differentiable, [..., P, 2].
        reference: log pi_ref(y|x), [..., P, 2].
        label: 1 where the first completion is preferred, 0 where the second, 0.5 for a tie,
            [..., P]; in an expectation, the probability of 1.
        online: 1 where the policy drew the pair, 0 where the reference did, [..., P].
    """

    policy: Tensor
    reference: Tensor
    label: Tensor
    online: Tensor

    def margin(self, beta: float) -> Tensor:
        """Difference of the implicit rewards, [..., P]."""
        reward = beta * (self.policy - self.reference)
        return reward[..., 0] - reward[..., 1]


def surrogates(pairs: Compared, beta: float, baseline: Tensor) -> tuple[Tensor, Tensor]:
    """Functions, [..., P], whose gradients are the integrands of T1 and T2."""
    score = pairs.online * pairs.policy.sum(-1)
    return t1_t2_surrogates(pairs.margin(beta), pairs.label, score, baseline)


def estimates(pairs: Compared, beta: float) -> tuple[Tensor, Tensor]:
    """Scalars whose gradients estimate T1 and T2 from P independent pairs."""
    log_p = log_likelihood(pairs.margin(beta), pairs.label).detach()
    t1, t2 = surrogates(pairs, beta, leave_one_out(log_p))
    return t1.mean(-1), t2.mean(-1)
