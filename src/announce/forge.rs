//! The calls that a verdict takes, as Gitea, Forgejo and GitHub have them: they differ in the address of the API, in how a
//! token is named, and in whether a list of comments has pages.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use reqwest::Method;
use serde_json::{Value, json};

use super::place::{Api, Place};
use super::request::{ATTEMPTS, Answer, Ask, Client, LIST, NoAnswer, SMALL};
use super::token::Token;

/// Comments of a page, where there are pages, and pages that are looked through.
const PAGE: usize = 100;
const PAGES: usize = 50;

/// What became of a comment; each with its address.
pub enum Found {
    Written(String),
    Edited(String),
    /// One is there, and is to stay as it is.
    Newer(String),
}

/// A user, by what the forge tells of them.
pub enum User {
    /// The number of the user, which never changes.
    Id(i64),
    /// Any of these names.
    Logins(Vec<String>),
}

/// A comment that is there.
struct Comment {
    id: i64,
    address: String,
    body: String,
}

/// One repository of a forge, and one pull request of it.
pub struct Forge {
    client: Client,
    api: Api,
    repo: String,
    sha: String,
    pr: u64,
    target: Option<String>,
}

impl Forge {
    pub fn new(place: &Place, token: Token, deadline: Duration) -> Result<Self> {
        let forge = &place.forge.value;
        let base = match (place.api.value, forge.as_str()) {
            (Api::Gitea, _) => format!("{forge}/api/v1"),
            (Api::GitHub, "https://github.com") => "https://api.github.com".into(),
            (Api::GitHub, _) => format!("{forge}/api/v3"),
        };
        Ok(Forge {
            client: Client::new(base, place.api.value, token, deadline)?,
            api: place.api.value,
            repo: place.repo.value.clone(),
            sha: place.sha.value.clone(),
            pr: place.pr.value,
            target: place.links.first().map(|(_, address)| address.clone()),
        })
    }

    /// Sets the status of the commit: the newest of a context is the one that counts.
    pub async fn status(&self, state: &str, line: &str, context: &str) -> Result<()> {
        let mut body = json!({ "state": state, "description": line, "context": context });
        if let Some(target) = &self.target {
            body["target_url"] = target.as_str().into();
        }
        let failed = || format!("failed to set the status of `{}`", self.sha);
        let path = format!("/repos/{}/statuses/{}", self.repo, self.sha);
        let answer = self.ask(Method::POST, &path, Some(&body), SMALL).await.with_context(failed)?;
        match answer.status {
            201 => Ok(()),
            // Whatever is wrong with a status, Gitea answers by 500, and GitHub by 422.
            500 | 422 => Err(self.refused(&answer, "does the repository have that commit?")).with_context(failed),
            _ => Err(self.refused(&answer, "setting a status takes a token with write access to the repository"))
                .with_context(failed),
        }
    }

    /// The commit at the pull request's head now.
    pub async fn head_of_pull(&self) -> Result<String> {
        let path = format!("/repos/{}/pulls/{}", self.repo, self.pr);
        let failed = || format!("failed to read pull request {}", self.pr);
        let answer = self.ask(Method::GET, &path, None, SMALL).await.with_context(failed)?;
        if answer.status != 200 {
            return Err(self.refused(&answer, "is that its number?")).with_context(failed);
        }
        let json = answer.json().with_context(failed)?;
        json["head"]["sha"]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("{} names no head", answer.asked))
            .with_context(failed)
    }

    /// Whose token this is. A job's automatic token may not ask: then it is the user that such tokens write as.
    pub async fn own_user(&self, named: Option<&str>, automatic: &[&str]) -> Result<User> {
        if let Some(login) = named {
            return Ok(User::Logins(vec![login.into()]));
        }
        let failed = "failed to find out whose token this is";
        let answer = self.ask(Method::GET, "/user", None, SMALL).await.context(failed)?;
        match answer.status {
            200 => {
                let json = answer.json().context(failed)?;
                json["id"]
                    .as_i64()
                    .map(User::Id)
                    .with_context(|| format!("{} names no id", answer.asked))
                    .context(failed)
            }
            403 | 404 if !automatic.is_empty() => Ok(User::Logins(automatic.iter().map(|it| it.to_string()).collect())),
            _ => Err(self.refused(&answer, "`--user LOGIN` says it where the token may not ask")).context(failed),
        }
    }

    /// Edits the user's comment that `is_ours`, unless it `is_newer`; writes one where there is none, or none any more.
    pub async fn say(
        &self,
        user: &User,
        body: &str,
        is_ours: impl Fn(&str) -> bool,
        is_newer: impl Fn(&str) -> bool,
    ) -> Result<Found> {
        let mut attempt = 1;
        loop {
            // Before every attempt: one whose answer was lost may have been heard all the same.
            let there = self.comment_of(user, &is_ours).await?;
            if let Some(comment) = there {
                if is_newer(&comment.body) {
                    return Ok(Found::Newer(comment.address));
                }
                if self.edit(&comment, body).await? {
                    return Ok(Found::Edited(comment.address));
                }
                // Somebody has deleted it since.
            }
            let answer = self.write(body).await;
            let later = match &answer {
                Ok(answer) if answer.status == 201 => return Ok(Found::Written(address(&answer.json()?))),
                Ok(answer) if answer.may_change() && attempt < ATTEMPTS => answer.later,
                Err(error) if error.is::<NoAnswer>() && attempt < ATTEMPTS => None,
                _ => return Err(self.comment_refused(answer?)),
            };
            self.client.pause(attempt, later).await.context("failed to write the comment")?;
            attempt += 1;
        }
    }

    async fn write(&self, body: &str) -> Result<Answer> {
        let path = format!("/repos/{}/issues/{}/comments", self.repo, self.pr);
        let body = json!({ "body": body });
        self.client.once(&Ask { method: Method::POST, path: &path, body: Some(&body), most: SMALL }).await
    }

    /// False when it is gone.
    async fn edit(&self, comment: &Comment, body: &str) -> Result<bool> {
        let path = format!("/repos/{}/issues/comments/{}", self.repo, comment.id);
        let answer = self.ask(Method::PATCH, &path, Some(&json!({ "body": body })), SMALL).await?;
        match answer.status {
            200 => Ok(true),
            // The second is what Gitea says of an id that is no comment.
            404 | 204 => Ok(false),
            _ => Err(self.comment_refused(answer)),
        }
    }

    async fn comment_of(&self, user: &User, is_ours: impl Fn(&str) -> bool) -> Result<Option<Comment>> {
        let failed = || format!("failed to look for an earlier comment at pull request {}", self.pr);
        for page in 1..=PAGES {
            let mut path = format!("/repos/{}/issues/{}/comments", self.repo, self.pr);
            if self.api == Api::GitHub {
                path += &format!("?per_page={PAGE}&page={page}");
            }
            let answer = self.ask(Method::GET, &path, None, LIST).await.with_context(failed)?;
            if answer.status != 200 {
                return Err(self.refused(&answer, "reading comments takes a token with access to issues"))
                    .with_context(failed);
            }
            let json = answer.json().with_context(failed)?;
            let list = json
                .as_array()
                .with_context(|| format!("{} was answered by no list", answer.asked))
                .with_context(failed)?;
            if let Some(found) = list.iter().find(|it| wrote(user, it) && it["body"].as_str().is_some_and(&is_ours)) {
                return Ok(Some(comment(found).with_context(failed)?));
            }
            // Gitea has all of them in one answer.
            if self.api == Api::Gitea || list.len() < PAGE {
                return Ok(None);
            }
        }
        bail!("pull request {} has more than {} comments, and no more are looked through", self.pr, PAGE * PAGES)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>, most: usize) -> Result<Answer> {
        self.client.ask(&Ask { method, path, body, most }).await
    }

    fn comment_refused(&self, answer: Answer) -> anyhow::Error {
        let hint = match answer.status {
            403 => "the conversation may be locked, or the token may not write comments",
            423 => "the repository is archived",
            410 => "comments are switched off there",
            _ => "it was tried as often as is of use",
        };
        self.refused(&answer, hint).context(format!("failed to write the comment at pull request {}", self.pr))
    }

    fn refused(&self, answer: &Answer, hint: &str) -> anyhow::Error {
        let Answer { status, asked, .. } = answer;
        let hint = match status {
            401 => format!("the forge does not accept the token from {}", self.client.token.from),
            404 => format!("there is no such thing in `{}`, or the token may not see it", self.repo),
            429 => "the forge asks for fewer requests".into(),
            _ => hint.to_owned(),
        };
        let tries = if answer.may_change() { format!(" {ATTEMPTS} times") } else { String::new() };
        anyhow!("{asked} was answered{tries} by {status}, {}: {hint}", answer.said())
    }
}

fn wrote(user: &User, comment: &Value) -> bool {
    match user {
        User::Id(id) => comment["user"]["id"].as_i64() == Some(*id),
        User::Logins(names) => {
            let login = comment["user"]["login"].as_str();
            login.is_some_and(|login| names.iter().any(|name| name.eq_ignore_ascii_case(login)))
        }
    }
}

fn comment(json: &Value) -> Result<Comment> {
    let id = json["id"].as_i64().context("a comment has no id")?;
    Ok(Comment { id, address: address(json), body: json["body"].as_str().unwrap_or_default().to_owned() })
}

/// Where people see it.
fn address(comment: &Value) -> String {
    comment["html_url"].as_str().unwrap_or("the forge does not say where").to_owned()
}
