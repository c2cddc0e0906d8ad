//! C identifiers for the names of a program. A character that C lacks is spelt by its code point (`φ` is `u03c6`), a
//! leading `_` gets an `x` before it, a word that C or C++ keeps for itself a `_` behind it, and a name that is taken
//! already a number (`q_2`). A function that would be one of these words, or one of the C library, gets `_variant`.

use std::collections::HashSet;

/// Keywords of C and C++, what the header itself includes, and macros that compilers or common headers define.
const RESERVED: &str = "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t \
    char8_t class co_await co_return co_yield compl complex concept const const_cast consteval constexpr constinit \
    continue decltype default delete do double dynamic_cast else enum explicit export extern false final float for \
    friend goto if imaginary import inline int linux long module mutable namespace new noexcept noreturn not not_eq \
    nullptr operator or or_eq override private protected public register reinterpret_cast requires restrict return \
    short signed sizeof static static_assert static_cast struct switch template this thread_local throw true try \
    typedef typeid typename typeof typeof_unqual union unix unsigned using virtual void volatile wchar_t while xor \
    xor_eq I NULL EOF NAN INFINITY size_t ptrdiff_t max_align_t offsetof int8_t int16_t int32_t int64_t uint8_t \
    uint16_t uint32_t uint64_t intptr_t uintptr_t intmax_t uintmax_t assert errno stdin stdout stderr workspace \
    workspace_bytes";

/// Functions of the C library: an object that defined one would take its place in the whole program.
const LIBRARY: &str = "abort abs acos acosh asin asinh atan atan2 atanh atexit atof atoi atol atoll bcmp bcopy bsearch \
    bzero calloc cbrt ceil close copysign cos cosh div dup erf erfc exit exp exp10 exp2 expm1 fabs fclose fdim fflush \
    floor fma fmax fmin fmod fopen fork fread free frexp fwrite gamma getenv gets hypot ilogb index isalnum isalpha \
    isdigit isinf isnan j0 j1 jn labs ldexp ldiv lgamma link llabs llrint llround log log10 log1p log2 logb longjmp \
    lrint lround main malloc memchr memcmp memcpy memmove memset modf nan nearbyint nextafter open pipe poll pow printf \
    putchar puts qsort rand read realloc remainder remove remquo rename rindex rint round scalb scalbln scalbn scanf \
    select setjmp signal significand sin sincos sinh sleep socket sqrt srand stat strcat strchr strcmp strcpy strlen \
    strncmp strncpy strstr strtod strtol sync system tan tanh tgamma time times tolower toupper trunc wait write y0 y1 yn";

/// The names of one scope.
#[derive(Debug, Clone, Default)]
pub struct Names {
    taken: HashSet<String>,
}

impl Names {
    pub fn new() -> Self {
        Self::default()
    }

    /// An identifier for a name, as like it as can be, unlike all before it.
    pub fn take(&mut self, wanted: &str) -> String {
        let mut plain = identifier(wanted);
        if RESERVED.split_whitespace().any(|word| word == plain) {
            plain.push('_');
        }
        let numbered = (2..).map(|n: u32| format!("{plain}_{n}"));
        let free = std::iter::once(plain.clone()).chain(numbered).find(|name| !self.taken.contains(name));
        let name = free.expect("numbers do not run out");
        self.taken.insert(name.clone());
        name
    }

    /// The same for a function, which may not be one of the C library either: `exp` is `exp_variant`.
    pub fn function(&mut self, wanted: &str) -> String {
        let plain = identifier(wanted);
        let kept = RESERVED.split_whitespace().chain(LIBRARY.split_whitespace()).any(|word| word == plain);
        self.take(&if kept { format!("{plain}_variant") } else { plain })
    }
}

/// Whether a name is an identifier that a program may define, and no word or function of C's own.
pub fn is_function(name: &str) -> bool {
    Names::new().function(name) == name
}

/// The name in the characters that C has.
pub fn identifier(name: &str) -> String {
    let mut plain = String::new();
    for c in name.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' => plain.push(c),
            other => plain.push_str(&format!("u{:04x}", u32::from(other))),
        }
    }
    if plain.starts_with(|c: char| c == '_' || c.is_ascii_digit()) || plain.is_empty() {
        plain.insert(0, 'x');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_where_c_can_have_them() {
        let mut names = Names::new();
        let taken = ["q", "q", "int", "\u{3c6}", "_x", "int_", "S_in"].map(|name| names.take(name));
        assert_eq!(taken, ["q", "q_2", "int_", "u03c6", "x_x", "int__2", "S_in"]);
    }

    #[test]
    fn functions_leave_the_c_library_alone() {
        assert_eq!(Names::new().function("exp"), "exp_variant");
        assert_eq!(Names::new().function("mine"), "mine");
        assert!(is_function("mine") && !is_function("while") && !is_function("exp") && !is_function("a b"));
    }
}
