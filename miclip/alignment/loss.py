"""The dual contrastive loss: unit space against the text of the predicted label and against the image.

``L = w_out · L_out(E_n(A), E_c(ĉ)) + w_in · L_in(E_n(A), E_i(X))`` (Shi et al., ICLR 2026, the training objective),
each a symmetric InfoNCE as in CLIP.
"""

from __future__ import annotations

import torch
from torch import Tensor


def info_nce(left: Tensor, right: Tensor, scale: Tensor | float, groups: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE between matched rows.

    Rows of the same group are all positives of each other: two images with the same predicted label share one text, and
    counting that text as a negative of the other row would push a label away from itself. So would two views of one
    image. With every group of size one
    this is ``open_clip.ClipLoss`` to rounding.

    Args:
        left: Normalised embeddings, float32 ``[B, D]``.
        right: Normalised embeddings, float32 ``[B, D]``; row ``j`` belongs to row ``j`` of ``left``.
        scale: Inverse temperature.
        groups: int64 ``[B]``, or None when every row is its own group.

    Returns:
        Scalar loss in nats.
    """
    logits = scale * left @ right.T
    if groups is None:
        groups = torch.arange(len(left), device=left.device)
    same = (groups[:, None] == groups[None, :]).to(logits.dtype)
    target = same / same.sum(dim=1, keepdim=True)
    rows = -(target * logits.log_softmax(dim=1)).sum(dim=1).mean()
    columns = -(target * logits.T.log_softmax(dim=1)).sum(dim=1).mean()
    return (rows + columns) / 2


def dual_loss(
    embedded: Tensor,
    texts: Tensor,
    images: Tensor,
    predicted: Tensor,
    sources: Tensor,
    scale: Tensor | float,
    *,
    output_weight: float,
    input_weight: float,
) -> Tensor:
    """The alignment objective on one batch.

    Args:
        embedded: ``E_n(A)`` normalised, float32 ``[B, D]``.
        texts: ``E_c(ĉ)`` normalised, float32 ``[B, D]``.
        images: ``E_i(X)`` normalised, float32 ``[B, D]``.
        predicted: Predicted label of each row, int64 ``[B]``; rows that share it are positives of each other in
            ``L_out``.
        sources: Image that each row is a view of, int64 ``[B]``; views of one image are positives of each other in
            ``L_in``.
        scale: Inverse temperature.
        output_weight: Weight of ``L_out``.
        input_weight: Weight of ``L_in``.
    """
    loss = embedded.new_zeros(())
    if output_weight:
        loss = loss + output_weight * info_nce(embedded, texts, scale, predicted)
    if input_weight:
        loss = loss + input_weight * info_nce(embedded, images, scale, sources)
    return loss
