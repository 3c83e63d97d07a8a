"""What a test or a hook may ask of the app it looks at. The harness answers at $APP_CALLS; docs/overlays.md has examples."""

import base64, json, os, types, urllib.error, urllib.request


class Failed(Exception):
    """A question without an answer, in the harness's words."""


def call(name, **question):
    body = json.dumps({key: value for key, value in question.items() if value is not None}).encode()
    try:
        with urllib.request.urlopen(f"{os.environ['APP_CALLS']}/{name}", body) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise Failed(json.load(error)["error"]) from None


def exec(service, *argv, **more):  # stdin=, user=, seconds=; .code, .stdout, .stderr
    return types.SimpleNamespace(**call("exec", service=service, argv=argv, **more))


def sh(service, line, **more):
    return exec(service, "/bin/sh", "-c", line, **more)


def read(service, path):  # str, or bytes where it is no text
    answer = call("read", service=service, path=path)
    return answer["text"] if "text" in answer else base64.b64decode(answer["base64"])


def write(service, path, content):
    content = {"text": content} if isinstance(content, str) else {"base64": base64.b64encode(content).decode()}
    call("write", service=service, path=path, **content)


def logs(service, tail=None):
    return call("logs", service=service, tail=tail)["lines"]


def services():
    return {service["name"]: service for service in call("services")["services"]}


def remember(key, value):
    call("remember", key=key, value=value)


def recall(key):
    return call("recall", key=key)["value"]
