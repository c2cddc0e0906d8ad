//! Characters of papers and of other languages: what each is written as here.

/// How a character that the language does not have is spelt.
const SPELLINGS: &[(&[&str], &str)] = &[
    (&["&", "&&", "∧"], "write `and`"),
    (&["|", "||", "∨"], "write `or`; an absolute value is `abs(x)`"),
    (&["!", "¬"], "write `not`; different is `!=`"),
    (&["%"], "the remainder is `mod`; comments start with `#`"),
    (&["@"], "the matrix product is `*`"),
    (&["?"], "a choice is `if c then a else b`"),
    (&["·", "×", "⋅", "∗", "•", "∙", "✕"], "the matrix product is `*`, the element-wise one `.*`"),
    (&["⊙", "∘", "⊗", "⊘"], "the element-wise product is `.*`, an outer product `k * v'`"),
    (&["÷"], "write `/`"),
    (&["±", "∓"], "write the two cases out"),
    (&["≤", "⩽", "≦"], "write `<=`"),
    (&["≥", "⩾", "≧"], "write `>=`"),
    (&["≠"], "write `!=`"),
    (&["≈", "≃", "≅", "≡"], "write `==`, or a bound: `abs(a - b) < 1e-3`"),
    (&["−", "–", "—", "‐", "‑"], "minus is `-`"),
    (&["’", "′", "‘", "´", "\"", "“", "”", "⊤", "⟙"], "the transpose is `'`; there are no strings"),
    (&["²"], "write `^2`"),
    (&["³"], "write `^3`"),
    (&["⁻", "⁻¹"], "an inverse is solved for: `solve(A, b)`; a reciprocal is `1 / x`"),
    (&["∞"], "write `inf`"),
    (&["√"], "write `sqrt(x)`"),
    (&["∑"], "write `sum[j](e)`"),
    (&["∏"], "write `prod[j](e)`"),
    (&["∈"], "write `in`: `sum[j in N](e)`"),
    (&["‖", "∥"], "a norm is `norm2(x)`"),
    (&["⟨", "⟩", "〈", "〉"], "an inner product is `q' * k`"),
    (&["←", "→", "⟵", "⇐", "≔"], "a definition is `let x[t] = ...;`, an update `update S[t] = ...;`"),
    (&["…", "⋯"], "write it out; a range is `1..n`"),
    (&["½"], "write `0.5`"),
    (&["$"], "there is no mark-up: leave it out"),
    (&["\\"], "functions are plain names: `exp(x)`, `sum[j](e)`; Greek letters are letters"),
    (&["`"], "leave it out"),
    (&["~"], "write `not`"),
];

/// How a run of characters that the language does not have is spelt here.
pub fn character(run: &str) -> Option<&'static str> {
    let row = SPELLINGS.iter().find(|(characters, _)| characters.contains(&run));
    row.map(|(_, help)| *help).or_else(|| {
        let first = run.chars().next()?;
        match first {
            '₀'..='₉' => Some("a digit stands in a name as it is: `k1`; a subscript is `x[1]`"),
            '⁰' | '⁴'..='⁹' => Some("a power is `x^2`"),
            '\u{200B}'..='\u{200F}' | '\u{2060}'..='\u{2064}' | '\u{00AD}' | '\u{202A}'..='\u{202E}' => {
                Some("an invisible character: delete it")
            }
            _ => None,
        }
    })
}

/// A letter set above or below the line in a paper, as it comes out of one: part of a name here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// `Sᵀ`
    Transpose,
    /// `kₜ`, with the letter meant.
    Subscript(char),
}

const SUBSCRIPTS: &[(char, char)] = &[
    ('ₜ', 't'),
    ('ᵢ', 'i'),
    ('ⱼ', 'j'),
    ('ₛ', 's'),
    ('ₙ', 'n'),
    ('ₘ', 'm'),
    ('ₖ', 'k'),
    ('ₕ', 'h'),
    ('ₗ', 'l'),
    ('ₚ', 'p'),
    ('ᵣ', 'r'),
    ('ᵤ', 'u'),
    ('ᵥ', 'v'),
    ('ₓ', 'x'),
    ('ₐ', 'a'),
    ('ₑ', 'e'),
    ('ₒ', 'o'),
];

/// A name that ends in a letter set above or below the line: the name before it, and what the letter says.
pub fn script(name: &str) -> Option<(&str, Script)> {
    let last = name.chars().next_back()?;
    let base = &name[..name.len() - last.len_utf8()];
    if base.is_empty() {
        return None;
    }
    match last {
        'ᵀ' | 'ᵗ' => Some((base, Script::Transpose)),
        _ => SUBSCRIPTS.iter().find(|(below, _)| *below == last).map(|(_, letter)| (base, Script::Subscript(*letter))),
    }
}
