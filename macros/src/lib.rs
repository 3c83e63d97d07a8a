//! `#[harness::test]` and `#[harness::before]`: put an async function into the harness's registry.

use proc_macro::TokenStream;
use quote::quote;
use syn::{ItemFn, parse_macro_input};

/// Registers `async fn name(app: &App) -> Result` as an assertion of the tier that its file is named after.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    // Editors offer "Run test" where they see a test attribute after expansion. Only they see this one: the compiler
    // must not take the function for a libtest test.
    let mark = quote!(#[cfg_attr(rust_analyzer, ::core::prelude::v1::test)]);
    register(arguments, item, quote!(Assertion), mark)
}

/// Registers `async fn name(app: &App) -> Result` as a hook that runs before the operation of its file's tier.
#[proc_macro_attribute]
pub fn before(arguments: TokenStream, item: TokenStream) -> TokenStream {
    register(arguments, item, quote!(Hook), quote!())
}

fn register(
    arguments: TokenStream,
    item: TokenStream,
    kind: proc_macro2::TokenStream,
    mark: proc_macro2::TokenStream,
) -> TokenStream {
    if !arguments.is_empty() {
        let error = "this attribute takes no arguments: tier and recipe follow from the file's place";
        return syn::Error::new(proc_macro2::Span::call_site(), error).to_compile_error().into();
    }
    let function = parse_macro_input!(item as ItemFn);
    if let Err(error) = check(&function) {
        return error.to_compile_error().into();
    }
    let name = &function.sig.ident;
    quote! {
        #mark
        #[allow(dead_code, reason = "called through the registry")]
        #function

        ::harness::inventory::submit! {
            ::harness::assertion::#kind {
                place: ::harness::assertion::Place {
                    module: ::core::module_path!(),
                    function: ::core::stringify!(#name),
                    file: ::core::file!(),
                    line: ::core::line!(),
                },
                run: |app| ::std::boxed::Box::pin(#name(app)),
            }
        }
    }
    .into()
}

/// The shape is checked here, so that the error stands at the function and not inside generated code.
fn check(function: &ItemFn) -> syn::Result<()> {
    let signature = &function.sig;
    if signature.asyncness.is_none() {
        return Err(syn::Error::new_spanned(signature.fn_token, "write `async fn`: assertions run under a deadline"));
    }
    if signature.inputs.len() != 1 {
        return Err(syn::Error::new_spanned(&signature.inputs, "write exactly one parameter, `app: &App`"));
    }
    Ok(())
}
