"""What would other readers do on other cases: means and differences with both of them random?

The analysis of Obuchowski and Rockette with the degrees of freedom of Hillis: readers' figures vary
from reader to reader, and those of all readers vary together, as they read the same cases.

Shapes: I modalities, J readers, C = I * J cells, M positive and N normal cases, K = M + N.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, f, norm, t

from simfrcnn.evaluation.delong import auc_components
from simfrcnn.evaluation.results import NAN

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
CovarianceBy = Literal["jackknife", "delong"]

CONFIDENCE = 0.95
_ROUNDING = 1e-24
"""Variances below this are 0 but for rounding."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95% interval, and the two-sided p-value of a difference from 0.

    ``df`` are the degrees of freedom of Student's distribution, infinite for the normal one. What
    is not there is NaN, and ``reason`` says why.
    """

    value: float
    low: float = NAN
    high: float = NAN
    standard_error: float = NAN
    df: float = NAN
    p_value: float = NAN
    reason: str | None = None

    def as_share(self) -> Estimate:
        """The same of a figure by itself: its interval ends where the figure does, and nobody asks
        whether it is 0.
        """
        low, high = np.clip([self.low, self.high], 0, 1).tolist()
        return dataclasses.replace(self, low=low, high=high, p_value=NAN)

    def without_test(self, reason: str | None) -> Estimate:
        """The same without a p-value, for this reason; None is none."""
        if reason is None:
            return self
        return dataclasses.replace(self, p_value=NAN, reason=self.reason or reason)

    def to_json(self) -> dict[str, Any]:
        """In JSON types, ``null`` for what is not there or not finite."""
        return {
            name: value if not isinstance(value, float) or math.isfinite(value) else None
            for name, value in vars(self).items()
        }


@dataclass(frozen=True)
class Cells:
    """One figure of several readers on the same cases, and what each case contributes to it.

    ``values`` (C,); ``positives`` (C, M) and ``normals`` (C, N) are the contributions: a figure
    moves by their mean over the cases of a kind. A difference of figures is one of cells.
    """

    values: FloatArray
    positives: FloatArray
    normals: FloatArray

    def __sub__(self, other: Cells) -> Cells:
        """The two have as many cells, or one of them has a single one."""
        return Cells(
            self.values - other.values,
            self.positives - other.positives,
            self.normals - other.normals,
        )

    def __getitem__(self, cells: slice) -> Cells:
        return Cells(self.values[cells], self.positives[cells], self.normals[cells])

    def covariance(self, by: CovarianceBy) -> FloatArray:
        """(C, C) covariance of the figures over cases; two cases of each kind or more.

        Leaving a case out moves the figure by its contribution's deviation over M - 1 (or N - 1),
        so that the jackknife needs no second computation of it.

        Reference:
            DeLong, DeLong and Clarke-Pearson 1988; Hillis, Obuchowski and Berbaum 2005, eq. 8
            (jackknife over all K cases).
        """
        n_positive, n_normal = self.positives.shape[1], self.normals.shape[1]
        of_positives, of_normals = np.cov(self.positives, ddof=1), np.cov(self.normals, ddof=1)
        if by == "delong":
            total = of_positives / n_positive + of_normals / n_normal
        else:
            n_all = n_positive + n_normal
            total = of_positives / (n_positive - 1) + of_normals / (n_normal - 1)
            total = total * (n_all - 1) / n_all
        return np.atleast_2d(total)


def auc_cells(ratings: FloatArray, is_positive: BoolArray) -> Cells:
    """The AUC of each of the ratings (C, K) of cases of which ``is_positive`` (K,) are."""
    below, above = zip(*(auc_components(row, is_positive) for row in ratings), strict=True)
    positives, normals = np.array(below), np.array(above)
    return Cells(positives.mean(axis=1), positives, normals)


def share_cells(
    is_counted: BoolArray, is_positive: BoolArray, of_positives: float, of_normals: float
) -> Cells:
    """A part of cases, (C, K), mixed from that of the positive and that of the normal ones.

    Sensitivity is the part called positive mixed 1 to 0, recall at a prevalence p is p to 1 - p.
    """
    positives = np.where(is_counted[:, is_positive], of_positives, 0.0)
    normals = np.where(is_counted[:, ~is_positive], of_normals, 0.0)
    return Cells(positives.mean(axis=1) + normals.mean(axis=1), positives, normals)


def of_one(cells: Cells, by: CovarianceBy) -> Estimate:
    """The figure (or difference) of a single cell over cases: a normal interval."""
    (value,) = cells.values.tolist()
    return _estimate(value, float(cells.covariance(by)[0, 0]), math.inf)


def over_readers(cells: Cells, by: CovarianceBy) -> Estimate:
    """The mean over readers of a figure, or of differences from one that has no readers.

    Its variance is (MS + J max(Cov, 0)) / J: MS the variance between readers, Cov the mean
    covariance of two of them over cases.

    Reference:
        Hillis 2007, "single" analysis (degrees of freedom); Hillis 2014, section 4, for the
        difference from a fixed standard such as a model.
    """
    n_readers = len(cells.values)
    value = float(cells.values.mean())
    if n_readers < 2:
        reason = "no interval over readers: there is a single one"
        return Estimate(value, reason=reason)
    covariance = cells.covariance(by)
    mean_square = float(cells.values.var(ddof=1))
    common = (covariance.sum() - np.trace(covariance)) / (n_readers * (n_readers - 1))
    total = mean_square + n_readers * max(float(common), 0.0)
    return _estimate(value, total / n_readers, _hillis(total, mean_square, n_readers - 1))


@dataclass(frozen=True)
class Components:
    """The mean variance and covariances of the cells over cases.

    ``same_reader`` is Cov1 (two modalities), ``same_modality`` Cov2 (two readers) and ``neither``
    Cov3.
    """

    variance: float
    same_reader: float
    same_modality: float
    neither: float


@dataclass(frozen=True)
class Modalities:
    """Modalities compared over random readers and cases.

    The test of all of them: ``f_value`` with ``df_between`` and ``df_within`` degrees of freedom.
    ``differences`` are first less second, by the places of the two.
    """

    f_value: float
    df_between: float
    df_within: float
    p_value: float
    components: Components
    differences: dict[tuple[int, int], Estimate]

    def without_tests(self, reason: str | None) -> Modalities:
        """The same without p-values, for this reason; None is none."""
        if reason is None:
            return self
        return dataclasses.replace(
            self,
            p_value=NAN,
            differences={
                pair: estimate.without_test(reason) for pair, estimate in self.differences.items()
            },
        )


def components_of(covariance: FloatArray, n_modalities: int, n_readers: int) -> Components:
    """Averages of a covariance (C, C) whose cells go reader by reader within each modality."""
    modality, reader = np.divmod(np.arange(n_modalities * n_readers), n_readers)
    is_modality = modality[:, None] == modality[None, :]
    is_reader = reader[:, None] == reader[None, :]

    def mean(which: BoolArray) -> float:
        return float(covariance[which].mean()) if which.any() else 0.0

    return Components(
        variance=mean(is_modality & is_reader),
        same_reader=mean(~is_modality & is_reader),
        same_modality=mean(is_modality & ~is_reader),
        neither=mean(~is_modality & ~is_reader),
    )


def compare_modalities(values: FloatArray, components: Components) -> Modalities:
    """The figures (I, J) of all readers with all modalities; two of each or more.

    Reference:
        Obuchowski and Rockette 1995; Hillis 2007, eq. 17 and table 1 (F, ddf_H and intervals).
    """
    n_modalities, n_readers = values.shape
    by_modality, by_reader = values.mean(axis=1), values.mean(axis=0)
    residuals = values - by_modality[:, None] - by_reader + values.mean()
    between = n_readers * float(by_modality.var(ddof=1))
    df_residual = (n_modalities - 1) * (n_readers - 1)
    mean_square = float((residuals**2).sum()) / df_residual
    extra = n_readers * max(components.same_modality - components.neither, 0.0)
    within = mean_square + extra
    df = _hillis(within, mean_square, df_residual)
    if within < _ROUNDING:
        f_value = p_value = NAN
    else:
        f_value = between / within
        df_between = n_modalities - 1
        p_value = (
            float(f.sf(f_value, df_between, df))
            if math.isfinite(df)
            else float(chi2.sf(f_value * df_between, df_between))
        )
    return Modalities(
        f_value=f_value,
        df_between=float(n_modalities - 1),
        df_within=df,
        p_value=p_value,
        components=components,
        differences={
            (one, other): _estimate(
                float(by_modality[one] - by_modality[other]), 2 / n_readers * within, df
            )
            for one, other in itertools.combinations(range(n_modalities), 2)
        },
    )


def _hillis(total: float, mean_square: float, df: float) -> float:
    """Satterthwaite's degrees of freedom, infinite where readers do not differ at all."""
    return total**2 / (mean_square**2 / df) if mean_square**2 > _ROUNDING**2 else math.inf


def _estimate(value: float, variance: float, df: float) -> Estimate:
    if variance < _ROUNDING:
        return Estimate(value, reason="no interval: it has no variance over these cases")
    error = math.sqrt(variance)
    own = t(df) if math.isfinite(df) else norm()
    half = float(own.ppf((1 + CONFIDENCE) / 2)) * error
    p_value = 2 * float(own.sf(abs(value) / error))
    return Estimate(value, value - half, value + half, error, df, p_value)
