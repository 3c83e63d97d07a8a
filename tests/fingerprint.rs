//! What of an overlay's Rust files may have shaped a deployment: everything but the assertions. An app that was left up
//! is reused after an assertion was edited, and not after a hook was, or what a hook may call. And all of them, for whoever
//! compares what two runs have found.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A short text that changes when anything but an assertion, a comment or the layout of a folder's files does.
pub fn besides_assertions(folder: &Path) -> std::io::Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in rust_files(folder)? {
        file.file_name().hash(&mut hasher);
        without_assertions(&std::fs::read_to_string(&file)?).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// A short text that changes with every byte of a folder's Rust files.
pub fn sources(folder: &Path) -> std::io::Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in rust_files(folder)? {
        file.file_name().hash(&mut hasher);
        std::fs::read(&file)?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn rust_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    Ok(files)
}

/// The tokens of a file without its `#[harness::test]` functions. A file that is no Rust is its own text: the compiler
/// will say what is wrong with it.
pub fn without_assertions(text: &str) -> String {
    let Ok(tokens) = text.parse::<TokenStream>() else { return text.to_owned() };
    let (mut rest, mut in_assertion) = (Vec::new(), false);
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if is(&token, '#') {
            let bang = tokens.next_if(|token| is(token, '!'));
            if let Some(TokenTree::Group(attribute)) = tokens.next_if(|token| delimited(token, Delimiter::Bracket)) {
                in_assertion |= bang.is_none() && is_test(&attribute);
                if !in_assertion && !is_doc(&attribute) {
                    rest.push(attribute.to_string());
                }
                continue;
            }
        }
        if !in_assertion {
            rest.push(token.to_string());
        } else if delimited(&token, Delimiter::Brace) {
            in_assertion = false;
        }
    }
    rest.join(" ")
}

fn is(token: &TokenTree, mark: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == mark)
}

fn delimited(token: &TokenTree, delimiter: Delimiter) -> bool {
    matches!(token, TokenTree::Group(group) if group.delimiter() == delimiter)
}

/// `#[harness::test]`, or `#[test]` where it was imported.
fn is_test(attribute: &Group) -> bool {
    attribute.stream().into_iter().last().is_some_and(|last| last.to_string() == "test")
}

/// A comment of documentation is an attribute to the compiler.
fn is_doc(attribute: &Group) -> bool {
    attribute.stream().into_iter().next().is_some_and(|first| first.to_string() == "doc")
}
