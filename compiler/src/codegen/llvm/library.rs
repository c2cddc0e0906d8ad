//! The functions that a C program calls: sizes checked, buffers placed, every kernel run over its grid.
//!
//! ```text
//! NAME_workspace   sizes -> bytes, or 0
//! NAME             sizes, pointers, workspace checked; subnormal numbers count as 0; initial states placed;
//!                  for every kernel, every point of its grid: body.N; the mode as it was
//! ```
//!
//! Both measure first: the value of every param and the elements of every buffer, in arithmetic that notices when it
//! overflows. Buffers lie in the workspace one after another on lines of 64 bytes. Nothing else of the module is exported.

use crate::interface::{Interface, Place, Start};
use crate::kernel::{BufferRole, Int, Kernel, Module, ParamId};

use super::kernel::{Part, divide};
use super::subnormal::Register;
use super::text::Text;

/// A size beyond this is refused, as where sizes are bound.
const LARGEST: i64 = 1 << 31;
/// A buffer of more elements is refused: their bytes, summed over all buffers, stay far from overflow.
const MOST: i64 = 1 << 48;
/// Bytes of a cache line.
const LINE: i64 = 64;

const WRONG_SIZE: &str = "-2";
const NULL_POINTER: &str = "-1";
const SMALL_WORKSPACE: &str = "-3";

/// A function that is called with a pointer a buffer and an i64 a size argument, and the module it is of.
pub(super) struct Extra<'i> {
    pub(super) number: usize,
    pub(super) module: &'i Module,
}

/// The kernels of the initial states, numbered after the module's own.
pub(super) fn extras<'i>(module: &Module, interface: &'i Interface) -> Vec<Extra<'i>> {
    let starts = interface.places.iter().filter_map(|place| match place {
        Place::Start(start) => Some(start.as_ref()),
        _ => None,
    });
    let modules = starts.flat_map(|start| start.declared.iter().map(|fill| &fill.module).chain([&start.copy]));
    modules.enumerate().map(|(place, extra)| Extra { number: module.kernels.len() + place, module: extra }).collect()
}

/// The text of the functions.
pub(super) fn define(module: &Module, interface: &Interface, extras: &[Extra<'_>]) -> String {
    let mut text = Writer::new(module, interface, extras).workspace();
    text += &Writer::new(module, interface, extras).call();
    text
}

struct Writer<'m> {
    module: &'m Module,
    interface: &'m Interface,
    extras: &'m [Extra<'m>],
    t: Text,
    /// Operands of i1: what makes the sizes wrong.
    wrong: Vec<String>,
    /// Operands of the module's params.
    params: Vec<String>,
}

/// What follows from the sizes.
struct Measured {
    /// Where in the workspace those lie that lie there.
    offsets: Vec<Option<String>>,
    /// Bytes of workspace; 0 where the sizes are wrong.
    bytes: String,
}

impl<'m> Writer<'m> {
    fn new(module: &'m Module, interface: &'m Interface, extras: &'m [Extra<'m>]) -> Self {
        Self { module, interface, extras, t: Text::new(1), wrong: Vec::new(), params: Vec::new() }
    }

    fn workspace(mut self) -> String {
        let measured = self.measure();
        self.t.run(format_args!("ret i64 {}", measured.bytes));
        let sizes = self.sizes();
        format!("define i64 @{}_workspace({}) #0 {{\n{}}}\n\n", self.interface.name, sizes.join(", "), self.t.finish())
    }

    fn call(mut self) -> String {
        let measured = self.measure();
        let none = self.t.set(format_args!("icmp eq i64 {}, 0", measured.bytes));
        self.leave(&none, WRONG_SIZE);
        let null = self.null();
        self.leave(&null, NULL_POINTER);
        let small = self.t.set(format_args!("icmp ult i64 %bytes, {}", measured.bytes));
        self.leave(&small, SMALL_WORKSPACE);
        let found = Register::HOST.map(|register| (register, register.flush(&mut self.t)));
        let buffers = self.buffers(&measured);
        for (number, kernel) in self.module.kernels.iter().enumerate() {
            self.kernel(number, kernel, &buffers);
        }
        if let Some((register, found)) = found {
            register.restore(&mut self.t, &found);
        }
        self.t.run("ret i32 0");
        let pointers = (0..self.interface.arguments.len()).map(|i| format!("ptr %a{i}"));
        let rest = self.sizes().into_iter().chain(["ptr %work".to_owned(), "i64 %bytes".to_owned()]);
        let head: Vec<String> = pointers.chain(rest).collect();
        format!("define i32 @{}({}) #0 {{\n{}}}\n\n", self.interface.name, head.join(", "), self.t.finish())
    }

    fn sizes(&self) -> Vec<String> {
        (0..self.interface.sizes.len()).map(|i| format!("i64 %s{i}")).collect()
    }

    fn arguments(&self) -> Vec<String> {
        (0..self.interface.sizes.len()).map(|i| format!("%s{i}")).collect()
    }

    /// Returns `code` where `cond` holds.
    fn leave(&mut self, cond: &str, code: &str) {
        let [out, on] = ["out", "on"].map(|stem| self.t.label(stem));
        self.t.branch(cond, &out, &on);
        self.t.block(&out);
        self.t.run(format_args!("ret i32 {code}"));
        self.t.block(&on);
    }

    fn measure(&mut self) -> Measured {
        let given = self.arguments();
        for size in &given {
            let wrong = self.t.set(format_args!("icmp ugt i64 {size}, {LARGEST}"));
            self.wrong.push(wrong);
        }
        let interface = self.interface;
        self.params = interface.params.iter().map(|x| self.int(x, &given)).collect();
        let params = self.params.clone();
        let module = self.module;
        let elements: Vec<String> = module.buffers.iter().map(|buffer| self.elements(&buffer.size, &params)).collect();
        let (mut offsets, mut bytes) = (Vec::new(), "0".to_owned());
        for (place, n) in interface.places.iter().zip(&elements) {
            if matches!(place, Place::Argument(_)) {
                offsets.push(None);
                continue;
            }
            offsets.push(Some(bytes.clone()));
            let own = self.t.mul(n, "4");
            let up = self.t.add(&own, &(LINE - 1).to_string());
            let lines = self.t.set(format_args!("and i64 {up}, {}", -LINE));
            bytes = self.t.add(&bytes, &lines);
        }
        // The first line begins somewhere in the first 64 bytes.
        let bytes = self.t.add(&bytes, &LINE.to_string());
        let wrong = std::mem::take(&mut self.wrong);
        let wrong = self.any(&wrong);
        let bytes = self.t.set(format_args!("select i1 {wrong}, i64 0, i64 {bytes}"));
        Measured { offsets, bytes }
    }

    fn elements(&mut self, size: &Int, params: &[String]) -> String {
        let n = self.int(size, params);
        // Below 0 is beyond all as an unsigned number.
        let wrong = self.t.set(format_args!("icmp ugt i64 {n}, {MOST}"));
        self.wrong.push(wrong);
        n
    }

    fn any(&mut self, all: &[String]) -> String {
        all.iter().fold("false".to_owned(), |so_far, one| self.t.set(format_args!("or i1 {so_far}, {one}")))
    }

    /// An i64 operand, in terms of these; an overflow is noted as wrong.
    fn int(&mut self, x: &Int, params: &[String]) -> String {
        let of = |id: &ParamId| params.get(id.index()).cloned().unwrap_or_else(|| "0".to_owned());
        match x {
            Int::Const(n) => n.to_string(),
            Int::Param(id) => of(id),
            // Sizes hold no loop variables and load nothing: `kernel::check` says so.
            Int::Var(_) | Int::Load(_) => "0".to_owned(),
            Int::Add(a, b) => self.careful("sadd", (a, b), params),
            Int::Sub(a, b) => self.careful("ssub", (a, b), params),
            Int::Mul(a, b) => self.careful("smul", (a, b), params),
            Int::Div(a, b) | Int::Mod(a, b) => {
                let part = if matches!(x, Int::Div(..)) { Part::Quotient } else { Part::Remainder };
                let (a, b) = (self.int(a, params), self.int(b, params));
                divide(&mut self.t, (&a, &b), part)
            }
            Int::Min(a, b) => {
                let (a, b) = (self.int(a, params), self.int(b, params));
                self.t.smaller(&a, &b)
            }
            Int::Max(a, b) => {
                let (a, b) = (self.int(a, params), self.int(b, params));
                self.t.larger(&a, &b)
            }
        }
    }

    fn careful(&mut self, op: &str, (a, b): (&Int, &Int), params: &[String]) -> String {
        let (a, b) = (self.int(a, params), self.int(b, params));
        let both = self.t.set(format_args!("call {{i64, i1}} @llvm.{op}.with.overflow.i64(i64 {a}, i64 {b})"));
        let over = self.t.set(format_args!("extractvalue {{i64, i1}} {both}, 1"));
        self.wrong.push(over);
        self.t.set(format_args!("extractvalue {{i64, i1}} {both}, 0"))
    }

    /// An i1 operand: whether a pointer is null that may not be.
    fn null(&mut self) -> String {
        let mut all = vec![self.t.set("icmp eq ptr %work, null")];
        let sizes = self.arguments();
        let interface = self.interface;
        for (place, argument) in interface.arguments.iter().enumerate().filter(|(_, a)| a.needed) {
            // Of the tensors that the kernels touch the sizes are checked; nothing of the others is read.
            let n = self.int(&argument.elements, &sizes);
            let some = self.t.set(format_args!("icmp ne i64 {n}, 0"));
            let null = self.t.set(format_args!("icmp eq ptr %a{place}, null"));
            all.push(self.t.set(format_args!("and i1 {some}, {null}")));
        }
        self.any(&all)
    }

    /// A pointer to every buffer.
    fn buffers(&mut self, measured: &Measured) -> Vec<String> {
        let at = self.t.set("ptrtoint ptr %work to i64");
        let back = self.t.set(format_args!("sub i64 0, {at}"));
        let off = self.t.set(format_args!("and i64 {back}, {}", LINE - 1));
        let base = self.t.set(format_args!("getelementptr i8, ptr %work, i64 {off}"));
        let mut extra = 0;
        let mut buffers = Vec::new();
        let interface = self.interface;
        for (buffer, place) in interface.places.iter().enumerate() {
            let work = |this: &mut Self| match &measured.offsets[buffer] {
                Some(offset) => this.t.set(format_args!("getelementptr i8, ptr {base}, i64 {offset}")),
                None => "null".to_owned(),
            };
            buffers.push(match place {
                Place::Argument(place) => format!("%a{place}"),
                Place::Work => work(self),
                Place::Start(start) => {
                    let own = work(self);
                    let first = extra;
                    extra += usize::from(start.declared.is_some()) + 1;
                    self.start(start, &own, first)
                }
            });
        }
        buffers
    }

    /// A pointer to an initial state; `own` is its place in the workspace, `extra` the first of its kernels.
    fn start(&mut self, start: &Start, own: &str, extra: usize) -> String {
        let Some((given, out)) = start.given else {
            self.fill(start, own, extra);
            return own.to_owned();
        };
        let [absent, present, shared, join] = ["absent", "present", "shared", "start"].map(|stem| self.t.label(stem));
        let null = self.t.set(format_args!("icmp eq ptr %a{given}, null"));
        self.t.branch(&null, &absent, &present);
        self.t.block(&absent);
        self.fill(start, own, extra);
        self.t.jump(&join);
        self.t.block(&present);
        let same = self.t.set(format_args!("icmp eq ptr %a{given}, %a{out}"));
        self.t.branch(&same, &shared, &join);
        self.t.block(&shared);
        let copy = extra + usize::from(start.declared.is_some());
        self.run(copy, &[format!("%a{given}"), own.to_owned()]);
        self.t.jump(&join);
        self.t.block(&join);
        self.t.set(format_args!("phi ptr [ {own}, %{absent} ], [ %a{given}, %{present} ], [ {own}, %{shared} ]"))
    }

    fn fill(&mut self, start: &Start, own: &str, extra: usize) {
        // Without a declared value a state that is not given has no elements.
        if let Some(fill) = &start.declared {
            let buffers: Vec<String> =
                fill.from.iter().map(|from| format!("%a{from}")).chain([own.to_owned()]).collect();
            self.run(extra, &buffers);
        }
    }

    fn run(&mut self, extra: usize, buffers: &[String]) {
        let number = self.extras[extra].number;
        self.t.run(format_args!("call void @body.{number}({})", operands(buffers, &self.arguments())));
    }

    /// A loop an axis of the grid around a call.
    fn kernel(&mut self, number: usize, kernel: &Kernel, buffers: &[String]) {
        let mut params = self.params.clone();
        let sizes = self.params.clone();
        let mut loops = Vec::new();
        for axis in &kernel.grid {
            let extent = self.int(&axis.extent, &sizes);
            let opened = self.t.open("0", &extent, 1, &[]);
            if let Some(param) = params.get_mut(axis.param.index()) {
                *param = opened.index.clone();
            }
            loops.push(opened);
        }
        self.t.run(format_args!("call void @body.{number}({})", operands(buffers, &params)));
        for opened in loops.iter().rev() {
            self.t.close(opened, &[]);
        }
    }
}

fn operands(buffers: &[String], ints: &[String]) -> String {
    let buffers = buffers.iter().map(|x| format!("ptr {x}"));
    buffers.chain(ints.iter().map(|x| format!("i64 {x}"))).collect::<Vec<_>>().join(", ")
}

/// Whether a module's buffers are what its interface says.
pub(super) fn fits(module: &Module, interface: &Interface) -> bool {
    let placed = module.buffers.iter().zip(&interface.places).all(|(buffer, place)| match place {
        Place::Argument(place) => interface.arguments.get(*place).is_some_and(|a| a.elem == buffer.elem),
        Place::Work => buffer.role != BufferRole::Input,
        Place::Start(_) => buffer.role == BufferRole::StateIn,
    });
    placed && module.buffers.len() == interface.places.len() && module.params.len() == interface.params.len()
}
