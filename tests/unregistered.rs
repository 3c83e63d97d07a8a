//! Functions under Rust's own `#[test]`: the runner is a test executable without libtest, so that nothing collects them.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Their names. Where `harness::test` was imported, `#[test]` is the right one.
pub fn functions(text: &str) -> Vec<String> {
    // The compiler will say what is wrong with a file that is no Rust.
    let Ok(tokens) = text.parse::<TokenStream>() else { return Vec::new() };
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    if imports_test(text) { Vec::new() } else { in_tokens(&tokens) }
}

fn imports_test(text: &str) -> bool {
    let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    plain.contains("useharness::test;") || plain.contains("useharness::{") && plain.contains("test")
}

fn in_tokens(tokens: &[TokenTree]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let TokenTree::Group(group) = token else { continue };
        let inner: Vec<TokenTree> = group.stream().into_iter().collect();
        let is_attribute = group.delimiter() == Delimiter::Bracket
            && at > 0
            && matches!(&tokens[at - 1], TokenTree::Punct(mark) if mark.as_char() == '#');
        if is_attribute && is_test_of_rust(&inner) {
            found.push(name_after(&tokens[at..]));
        } else if group.delimiter() == Delimiter::Brace {
            found.extend(in_tokens(&inner));
        }
    }
    found
}

/// `#[test]`, or that of an async runtime.
fn is_test_of_rust(attribute: &[TokenTree]) -> bool {
    let words: String = attribute.iter().map(ToString::to_string).collect();
    words == "test" || words.starts_with("tokio::test")
}

fn name_after(tokens: &[TokenTree]) -> String {
    let is_fn = |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word == "fn");
    let at = tokens.iter().position(is_fn);
    at.and_then(|at| tokens.get(at + 1)).map(ToString::to_string).unwrap_or_default()
}
