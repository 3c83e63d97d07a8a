//! `[http]` of `recipe.toml`: the pages that a visitor asks for, and what has to stand there.

use anyhow::{Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What counts as an answer over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// The path that is asked for.
    pub path: String,
    /// Accepted status codes; redirects are not followed. 404 is never accepted by default, because a router answers
    /// so for an app that is not there.
    pub status: Vec<u16>,
    /// What stands in the page's `<title>`.
    pub title: Option<String>,
    /// What stands in the page, each of it.
    pub contains: Vec<String>,
    /// Entry points that this recipe's Traefik has beside abra's: `web`, `web-secure`, `websecure`.
    pub entrypoints: Vec<String>,
    /// More pages that are asked for, on the same way.
    pub pages: Vec<PageCheck>,
    /// The host that is asked, when it is not the app's own domain, as `www.${DOMAIN}`; `${DOMAIN}` is that of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Why the app has no page, when it has none: nobody asks for one then. Ports that it publishes, or that Traefik
    /// routes over TCP and UDP, are asked all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub none: Option<String>,
}

impl Http {
    /// Refuses what could never be asked for, or never be accepted.
    pub(super) fn check(&self) -> Result<()> {
        for (index, page) in self.pages().into_iter().enumerate() {
            let key = if index == 0 { "http".to_owned() } else { format!("http.pages[{}]", index - 1) };
            if !page.path.starts_with('/') {
                bail!("`{key}.path` is `{}`: write a path that starts with `/`", page.path);
            }
            if page.status.is_empty() {
                bail!("`{key}.status` is empty, so nothing could ever be accepted: name at least one status code");
            }
        }
        Ok(())
    }

    /// The host that is asked, of an app under this domain.
    pub fn host(&self, domain: &str) -> String {
        self.host.as_deref().map_or_else(|| domain.to_owned(), |host| host.replace("${DOMAIN}", domain))
    }

    /// Every page, the one of `path` first.
    pub fn pages(&self) -> Vec<PageCheck> {
        let Http { path, status, title, contains, .. } = self.clone();
        let first = PageCheck { path, status, title, contains };
        std::iter::once(first).chain(self.pages.iter().cloned()).collect()
    }
}

/// A page, and what a visitor must find there.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PageCheck {
    /// The path that is asked for.
    pub path: String,
    /// Accepted status codes.
    pub status: Vec<u16>,
    /// What stands in the page's `<title>`.
    pub title: Option<String>,
    /// What stands in the page, each of it.
    pub contains: Vec<String>,
}

impl Default for PageCheck {
    fn default() -> Self {
        let Http { path, status, title, contains, .. } = Http::default();
        PageCheck { path, status, title, contains }
    }
}

impl PageCheck {
    /// Whether the recipe says what stands there.
    pub fn is_described(&self) -> bool {
        self.title.is_some() || !self.contains.is_empty()
    }

    /// The same, for people.
    pub fn described(&self) -> String {
        let title = self.title.iter().map(|title| format!(", the title {title:?}"));
        let contains = self.contains.iter().map(|text| format!(", the text {text:?}"));
        title.chain(contains).collect()
    }
}

impl Default for Http {
    fn default() -> Self {
        let status = vec![200, 301, 302, 303, 307, 308, 401, 403];
        let (contains, entrypoints, pages) = Default::default();
        Http { path: "/".into(), status, title: None, contains, entrypoints, pages, host: None, none: None }
    }
}
