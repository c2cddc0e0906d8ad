//! What differs between naga's WGSL and that of browsers, and how types and numbers are spelt in both.

use super::{Dialect, Options, Precision, Stored};

/// The directives at the head of a shader.
pub(super) fn head(options: &Options) -> String {
    let mut out = String::new();
    if options.precision == Precision::F16 {
        out += "enable f16;\n";
    }
    // naga has subgroup operations without being asked and refuses the directive.
    if options.limits.subgroups && options.dialect == Dialect::Browser {
        out += "enable subgroups;\n";
    }
    out
}

pub(super) fn stored(elem: Stored) -> &'static str {
    match elem {
        Stored::F32 => "f32",
        Stored::I32 => "i32",
        Stored::F16 => "f16",
    }
}

/// A number as a literal that reads back as the same f32. Infinities are the largest numbers; NaN is a call.
pub(super) fn number(c: f64) -> String {
    if c.is_nan() {
        return "nan()".to_owned();
    }
    let x = (c as f32).clamp(f32::MIN, f32::MAX);
    // Shaders may flush what has no full precision, and browsers refuse it as a literal.
    let x = if x.is_subnormal() { 0.0 } else { x };
    if x.is_sign_negative() && x != 0.0 { format!("(-{:?}f)", -x) } else { format!("{:?}f", x.abs()) }
}

/// An i32 literal.
pub(super) fn integer(n: i64) -> String {
    if n < 0 { format!("({n})") } else { n.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_read_back_as_the_same_number() {
        for x in [0.1f32, 1e-6, 3.402_823_5e38, 16_777_217.0, 0.333_333_34, 1.0, 1.175_494_4e-38] {
            let text = number(f64::from(x));
            assert_eq!(text.trim_end_matches('f').parse::<f32>().unwrap(), x, "{text}");
        }
        assert_eq!(number(-2.5), "(-2.5f)");
        assert_eq!(number(f64::NEG_INFINITY), "(-3.4028235e38f)");
        assert_eq!(number(1e-42), "0.0f");
        assert_eq!(integer(-3), "(-3)");
    }
}
