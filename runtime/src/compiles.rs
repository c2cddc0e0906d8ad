//! What compiles a variant: of every back end the forms that it takes, and why it takes no others. Found by lowering to
//! kernels and, for shaders, printing them: no machine code is made, and no device opened.

use chunkwise_compiler::{Derivation, Form, FormReport, Schedule, Tiles, Unsupported, bind::Sizes, kernel};

use crate::{
    backend::{Backend, Presence},
    device::Settings,
    initial::only_interpreted,
    request::Failure,
    tensor::Tensors,
};

/// Of a back end whose code generator is not in this binary.
pub const NOT_BUILT_IN: &str = "not built in";

/// A back end's forms.
#[derive(Debug, Clone)]
pub struct Compiles {
    pub backend: Backend,
    pub forms: Vec<FormCompiles>,
    /// Why nothing runs on it here, whatever the variant.
    pub unusable: Option<Unusable>,
}

/// Why a back end is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unusable {
    NotBuiltIn,
    /// No device, or none of the name or precision asked for.
    Here(String),
}

/// Whether a form compiles.
#[derive(Debug, Clone)]
pub struct FormCompiles {
    pub form: Form,
    /// Why it does not.
    pub missing: Option<Reason>,
}

/// Why a form does not compile. Two that say the same of two forms are equal.
#[derive(Debug, Clone)]
pub struct Reason {
    text: String,
    why: String,
    /// Whether it is this back end's alone; else no back end compiles the form.
    own: bool,
}

impl Compiles {
    /// The forms that it takes; none where it is not usable.
    pub fn taken(&self) -> Vec<Form> {
        let forms = self.forms.iter().filter(|of| of.missing.is_none() && self.unusable.is_none());
        forms.map(|of| of.form).collect()
    }

    /// Whether the reason why it takes none is its own, not that of the forms.
    pub fn is_own_reason(&self) -> bool {
        self.unusable.is_some() || self.forms.iter().any(|of| of.missing.as_ref().is_some_and(|why| why.own))
    }

    /// Why it takes none.
    pub fn reason(&self) -> Option<String> {
        match &self.unusable {
            Some(Unusable::NotBuiltIn) => Some(NOT_BUILT_IN.into()),
            Some(Unusable::Here(why)) => Some(why.clone()),
            None if self.taken().is_empty() => Some(self.forms.first()?.missing.as_ref()?.to_string()),
            None => None,
        }
    }
}

impl PartialEq for Reason {
    fn eq(&self, other: &Self) -> bool {
        self.why == other.why
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<&Unsupported> for Reason {
    fn from(of: &Unsupported) -> Self {
        Self { text: of.to_string(), why: format!("{}; {}", of.reason, of.way_out), own: false }
    }
}

/// Of every form that exists whether it becomes kernels: those of the chunked form in the schedule that is asked for.
pub fn lowered(
    derivation: &Derivation,
    sizes: &Sizes,
    forms: Vec<FormReport>,
    schedule: Schedule,
) -> Vec<FormCompiles> {
    let of = |form: Form, missing: Option<Unsupported>| {
        let layout = (form, if form == Form::Chunked { schedule } else { Schedule::Fused });
        let missing = match missing {
            Some(missing) => Some(Reason::from(&missing)),
            None => kernels(derivation, sizes, layout).err(),
        };
        FormCompiles { form, missing }
    };
    forms.into_iter().map(|report| of(report.form, report.missing)).collect()
}

/// A code generator for CPUs takes every module that holds together.
fn kernels(derivation: &Derivation, sizes: &Sizes, layout: (Form, Schedule)) -> Result<(), Reason> {
    let module = derivation.compile(sizes, layout, Tiles::Whole).map_err(|why| Reason::from(&why))?;
    if let Some(state) = only_interpreted(derivation.variant(), sizes, &Tensors::new()) {
        let text = format!("only the reference evaluates the declared value of `{state}`; give `{state}` as a tensor");
        return Err(Reason { why: text.clone(), text, own: false });
    }
    kernel::check(module).map(|_| ()).map_err(|errors| {
        let text = format!("the kernel of the {} form does not hold together: {}", layout.0.name(), errors.join("; "));
        Reason { why: text.clone(), text, own: false }
    })
}

/// What a back end takes of these forms.
pub fn on(
    backend: Backend,
    (derivation, sizes): (&Derivation, &Sizes),
    lowered: &[FormCompiles],
    (schedule, chunk, settings): (Schedule, usize, &Settings),
) -> Compiles {
    let unusable = match backend.presence() {
        Presence::NotBuiltIn => Some(Unusable::NotBuiltIn),
        Presence::Built => match settings.precision.backend().filter(|of| *of != backend) {
            Some(of) => {
                let (precision, of) = (settings.precision.name(), of.name());
                Some(Unusable::Here(format!("precision {precision} is of the {of} back end")))
            }
            None => backend.devices().err().map(|why| Unusable::Here(why.reason)),
        },
    };
    let forms = lowered.iter().cloned().map(|mut of| {
        if backend == Backend::Wgpu && unusable.is_none() && of.missing.is_none() {
            let layout = (of.form, if of.form == Form::Chunked { schedule } else { Schedule::Fused });
            of.missing = shaders((derivation, sizes), (layout, chunk), settings).err().map(|failure| match failure {
                Failure::Unsupported(why) => Reason { own: true, ..Reason::from(&why) },
                other => Reason { text: other.to_string(), why: other.to_string(), own: true },
            });
        }
        of
    });
    Compiles { backend, forms: forms.collect(), unusable }
}

#[cfg(feature = "wgpu")]
fn shaders(
    (derivation, sizes): (&Derivation, &Sizes),
    (layout, chunk): ((Form, Schedule), usize),
    settings: &Settings,
) -> Result<(), Failure> {
    let plan = crate::Plan { backend: Backend::Wgpu, form: layout.0, schedule: layout.1, chunk };
    let chunk = crate::execute::compiled_chunk(plan, usize::MAX);
    crate::gpu::Build { derivation, sizes, layout, chunk, tiles: 1, settings }.code().map(|_| ())
}

/// A back end that is not built in makes none.
#[cfg(not(feature = "wgpu"))]
fn shaders(_: (&Derivation, &Sizes), _: ((Form, Schedule), usize), _: &Settings) -> Result<(), Failure> {
    Err(Failure::Failed("this chunkwise makes no shaders".into()))
}

#[cfg(test)]
mod tests {
    use chunkwise_compiler::bind::bind_dims;
    use chunkwise_dsl::{compile, source::Source};

    use super::*;

    fn found(read: &str) -> Vec<FormCompiles> {
        let text = format!(
            "variant v {{ axes B, T, H, K, V; input q, k : [B,T,H,K], v : [B,T,H,V]; state S : [K,V] = 0;
             update S additive(k, v); output o[t] = S[t]' * {read}; }}"
        );
        let program = compile(&Source::new("v", text), &[]).unwrap();
        let dims: Vec<(String, usize)> = ["B", "T", "H", "K", "V"].map(|name| (name.to_string(), 4)).into();
        let sizes = bind_dims(&program.variants[0], &dims).unwrap();
        let derivation = Derivation::of(&program.variants[0]);
        lowered(&derivation, &sizes, derivation.report().1, Schedule::Fused)
    }

    #[test]
    fn forms_that_exist_and_become_kernels_compile() {
        assert!(found("q[t]").iter().all(|of| of.missing.is_none()));
    }

    #[test]
    fn a_refusal_names_the_form_asked_for_and_is_one_reason() {
        let found = found("solve(S[t] * S[t]' + eye(K), q[t])");
        let reasons: Vec<Reason> = found.iter().filter_map(|of| of.missing.clone()).collect();
        assert_eq!(reasons.len(), 3);
        for (of, reason) in found.iter().zip(&reasons) {
            assert!(reason.to_string().contains(of.form.name()), "{reason}");
        }
        assert!(reasons.iter().all(|reason| *reason == reasons[0]));
    }
}
