//! Calls and stacks: what is bound to what.

use super::compile;

#[test]
fn a_call_binds_the_axes_of_its_callee() {
    let text = "variant a { axes B, T, H, K; input q : [B,T,H,K]; param w : [H,K]; output o[t] = q[t] .* w; }
        variant b { axes B, N, A, K; input x : [B,N,A,K]; param w : [A,K]; let o = a(q = x); output o; }";
    let program = compile(text).expect("it checks");
    let caller = &program.variants[1];
    let names: Vec<String> =
        caller.calls[0].sizes.iter().map(|size| size.print(&|axis| caller.axis_name(axis))).collect();
    assert_eq!(names, ["B", "N", "A", "K"]);
}

#[test]
fn the_params_of_a_stack_have_an_entry_a_layer() {
    let text = "variant a { axes T, D; input x : [T,D]; param W : [D,D]; output y[t] = W * x[t]; }
        stack s(r = 3) { repeat r { a; } a; } stack t { repeat 2 shared { a; } }";
    let program = compile(text).expect("it checks");
    let dims = |at: usize| {
        let stack = &program.variants[at];
        let dims = stack.tensors[1].dims.iter().map(|dim| dim.size.print(&|axis| stack.axis_name(axis)));
        (stack.tensors[1].name.clone(), stack.calls.len(), dims.collect::<Vec<_>>().join(","))
    };
    assert_eq!(dims(1), ("a.W".to_string(), 4, "4,D,D".to_string()));
    assert_eq!(dims(2), ("a.W".to_string(), 2, "D,D".to_string()));
}
