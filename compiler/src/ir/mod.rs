//! The term language of the derivation: what each operator means, in math.
//!
//! A term denotes a whole **stream**: a value at every time. Time is implicit; the only temporal operators are `prev`,
//! `scan` and the chunk maps, so there are no binders. A **frame** says what time is: `T` tokens; `C` tokens within a
//! chunk (chunks are a batch axis); `N` chunks. One system of terms belongs to one state `S`, a K x V matrix at every
//! token (a vector state is K x 1, a scalar one 1 x 1; a state whose transition acts from the right is held transposed).
//! Streams of K-vectors, V-vectors, parts of features (vectors of a length of their own) and scalars are `Ten`; a stacked
//! stream (`stk`) holds r vectors a token.
//!
//! ```text
//! S, s0                the state's stream, its initial value;  mz, vz  the zero stream of matrices, of vectors
//! leaf                 product of state-free per-token values, canonical (`Leaf`)
//! add x y, mul c x     pointwise (add of pairs too); mul by a scalar, by an equal vector, or (of a matrix) by a K-vector
//! dot w k              w' k
//! outer k v            k v'                      (stacked: the sum over the stack)
//! prev s M             M[t-1], s before the first      dprev d s M   diag(d[t]) M[t-1]
//! read w M             M' w                            readv y M     M y
//! cols b M             M diag(b), b a V-vector
//! app A M              A M
//! aff A B X            A X + B                         raff w y X    X' w + y
//! scan A B s           H[t] = A[t] H[t-1] + B[t], H[-1] = s
//! fin H                H at the last token
//! all A B s, alx A B s H[t] and H[t-1] of that scan, held one by one: each token a whole matrix
//! oid, odi d           I, diag(d) (d a scalar or a K-vector)
//! odi2 d b             X -> diag(d) X diag(b), b a V-vector
//! or1 c u w            X -> u (c .* (X' w))'   that is c u w' for a scalar c; a V-vector c scales columns; stacked: a sum
//! opost c u w d        (I + or1 c u w) diag(d): decay, then rank one
//! oadd, ocomp          A + B, A B                      oapT A w      A' w
//! tri d q k            M[t,s] = sum_c q[t,c] G[t,s,c] k[s,c], s <= t;  G[t,s] = product of d over s < tau <= t
//! trs, trx             same, s < t; trx with G[t-1,s]
//! triv d M k           out[t] = sum_{s<=t} M[t,s] G[t,s] .* k[s];  trvx: s < t with G[t-1,s]
//!                      (tri, trx, triv, trvx, qin, qex and kout decay V-vectors alike, by a V-vector d)
//! rows c M, mm M x     diag(c) M, M x                  usolve P x    (I - P)^-1 x, P strictly lower
//! usolvec c P x        the y with y = c .* (P y) + x, c a V-vector
//! usolvb c b P x       the y with y = c .* (trvx b P y) + x: every column decays in its own way
//! qin d q, qex d q     q[t] .* G[t,start] with and without d[t] counted;  kout d k   k[s] .* G[end,s]
//! rd q s, rdv d y s    s' q;  G[t,start] .* (s y)  (rdvx: without d[t])
//! kv k x               K' X over one chunk
//! ch x, unch x         tokens -> chunks of tokens and back
//! bnd s                S before each chunk: what the loop over chunks carries
//! last H               H at each chunk's end: what it carries on
//! step d k v s         G[end,start] .* s + K' V: the state after one segment
//! step2 d b k v s      the same with the columns of s decayed by b too
//! mmT q k, dmask d     q k' for all pairs; G itself for a scalar d (dmaskx: G[t-1,s])
//! had A B, tril, tril1 elementwise product; lower triangle with and without the diagonal
//! trisub d q k         tri for a K-vector d by prefix and suffix products in sub-blocks (trisubx: trx)
//! trivsub, trvxsub     triv, trvx by running products
//! roots x y            no stream: what a derivation is asked for, one after the other
//! ```

pub mod eval;
pub mod facts;
pub mod form;
pub mod leaf;
pub mod lower;
pub mod normal;

use egg::{Id, define_language};

pub use facts::{Facts, Frame, Ty};
pub use leaf::{Atom, Feat, Leaf};

define_language! {
    /// One operator; see the module's table.
    pub enum Term {
        "S" = State,
        "s0" = Init,
        "mz" = ZeroMat,
        "vz" = ZeroVec,
        "add" = Add([Id; 2]),
        "mul" = Mul([Id; 2]),
        "dot" = Dot([Id; 2]),
        "stk" = Stack([Id; 2]),
        "outer" = Outer([Id; 2]),
        "prev" = Prev([Id; 2]),
        "dprev" = DecayedPrev([Id; 3]),
        "read" = Read([Id; 2]),
        "readv" = ReadRight([Id; 2]),
        "cols" = ScaleColumns([Id; 2]),
        "app" = Apply([Id; 2]),
        "aff" = Affine([Id; 3]),
        "raff" = ReadAffine([Id; 3]),
        "scan" = Scan([Id; 3]),
        "fin" = Final([Id; 1]),
        "all" = All([Id; 3]),
        "alx" = AllBefore([Id; 3]),
        "oid" = Identity,
        "odi" = Diagonal([Id; 1]),
        "odi2" = DiagonalBoth([Id; 2]),
        "or1" = RankOne([Id; 3]),
        "opost" = Post([Id; 4]),
        "oadd" = OpAdd([Id; 2]),
        "ocomp" = Compose([Id; 2]),
        "oapT" = ApplyTransposed([Id; 2]),
        "tri" = Tri([Id; 3]),
        "trs" = TriStrict([Id; 3]),
        "trx" = TriBefore([Id; 3]),
        "triv" = TriRight([Id; 3]),
        "trvx" = TriRightBefore([Id; 3]),
        "rows" = Rows([Id; 2]),
        "mm" = MatMul([Id; 2]),
        "usolve" = Solve([Id; 2]),
        "usolvec" = SolveColumns([Id; 3]),
        "usolvb" = SolveDecayed([Id; 4]),
        "qin" = DecayFromStart([Id; 2]),
        "qex" = DecayFromStartBefore([Id; 2]),
        "kout" = DecayToEnd([Id; 2]),
        "rd" = ReadStart([Id; 2]),
        "rdv" = ReadStartRight([Id; 3]),
        "rdvx" = ReadStartRightBefore([Id; 3]),
        "kv" = Gather([Id; 2]),
        "ch" = Chunks([Id; 1]),
        "unch" = Tokens([Id; 1]),
        "bnd" = Boundary([Id; 1]),
        "last" = Last([Id; 1]),
        "step" = Step([Id; 4]),
        "step2" = StepBoth([Id; 5]),
        "mmT" = Pairs([Id; 2]),
        "dmask" = DecayMask([Id; 1]),
        "dmaskx" = DecayMaskBefore([Id; 1]),
        "had" = Hadamard([Id; 2]),
        "tril" = Lower([Id; 1]),
        "tril1" = StrictlyLower([Id; 1]),
        "trisub" = TriProducts([Id; 3]),
        "trisubx" = TriProductsBefore([Id; 3]),
        "trivsub" = TriRightProducts([Id; 3]),
        "trvxsub" = TriRightProductsBefore([Id; 3]),
        "roots" = Roots([Id; 2]),
        Leaf(Leaf),
    }
}
