//! Stable realisations: every factor is a product of decays, so it lies in [-1, 1] and no exponent is evaluated.

pub const TABLE: &str = "
    # no decay: the lower triangle of Q K'
    undecayed-scores            | (tri 1 ?q ?k) => (tril (mmT ?q ?k)) |
    # no decay: the strictly lower triangle of W K'
    undecayed-strict-scores     | (trs 1 ?q ?k) => (tril1 (mmT ?q ?k)) |
    # no decay: the strictly lower triangle of W K'
    undecayed-early-scores      | (trx 1 ?q ?k) => (tril1 (mmT ?q ?k)) |
    # scalar decay: scores times the mask G[t,s] = d[t] G[t-1,s]
    scalar-decay-is-mask        | (tri ?d ?q ?k) => (tril (had (mmT ?q ?k) (dmask ?d))) | scalar d, fading d, decays d
    # scalar decay, s < t
    scalar-decay-is-strict-mask | (trs ?d ?q ?k) => (tril1 (had (mmT ?q ?k) (dmask ?d))) | scalar d, fading d, decays d
    # scalar decay, s < t, without d[t]
    scalar-decay-is-early-mask  | (trx ?d ?q ?k) => (tril1 (had (mmT ?q ?k) (dmaskx ?d))) | scalar d, fading d, decays d
    # decay by channel: prefix and suffix products between sub-blocks, running products inside
    channel-decay-by-products   | (tri ?d ?q ?k) => (tril (trisub ?d ?q ?k)) | along-k d, fading d, decays d
    # decay by channel, s < t
    strict-channel-decay        | (trs ?d ?q ?k) => (tril1 (trisub ?d ?q ?k)) | along-k d, fading d, decays d
    # decay by channel, s < t, without d[t]
    early-channel-decay         | (trx ?d ?q ?k) => (tril1 (trisubx ?d ?q ?k)) | along-k d, fading d, decays d
    # decay by column: the same along the values
    column-decay-by-products    | (tri ?b ?y ?v) => (tril (trisub ?b ?y ?v)) | along-v b, fading b, decays b
    # decay by column, s < t, without b[t]
    early-column-decay          | (trx ?b ?y ?v) => (tril1 (trisubx ?b ?y ?v)) | along-v b, fading b, decays b
    # no decay
    undecayed-right-read        | (triv 1 ?M ?k) => (mm (tril ?M) ?k) |
    # no decay, s < t
    undecayed-early-right-read  | (trvx 1 ?M ?k) => (mm (tril1 ?M) ?k) |
    # scalar decay: the mask again
    right-read-by-mask          | (triv ?d ?M ?k) => (mm (tril (had ?M (dmask ?d))) ?k) | scalar d, fading d, decays d
    # scalar decay, s < t, without d[t]
    early-right-read-by-mask    | (trvx ?d ?M ?k) => (mm (tril1 (had ?M (dmaskx ?d))) ?k) | scalar d, fading d, decays d
    # decay by channel: running products of the keys
    right-read-by-products      | (triv ?d ?M ?k) => (trivsub ?d ?M ?k) | along-k d, fading d, decays d
    # decay by channel, s < t, without d[t]
    early-right-read-by-products | (trvx ?d ?M ?k) => (trvxsub ?d ?M ?k) | along-k d, fading d, decays d
    # decay by column: running products of the values
    read-by-column-products     | (triv ?b ?M ?v) => (trivsub ?b ?M ?v) | along-v b, fading b, decays b
    # decay by column, s < t, without b[t]
    early-read-by-column-products | (trvx ?b ?M ?v) => (trvxsub ?b ?M ?v) | along-v b, fading b, decays b
";
