"""The page an invitation's link leads to: takes a name and a password and accepts by the API.

The token stands behind the `#` of the address, which browsers keep to themselves; the page's script reads it there.
"""

import base64
import hashlib
from typing import Final

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from services.tenancy import passwords

router = APIRouter(include_in_schema=False)

_SCRIPT: Final = """
const form = document.querySelector("form"), said = document.querySelector("[role=status]");
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  said.textContent = "";
  const name = form.elements.name.value.trim();
  const body = {token: location.hash.slice(1), password: form.elements.password.value, ...(name && {name})};
  try {
    const answer = await fetch("v1/invitations/accept",
      {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});
    const told = await answer.json();
    if (answer.ok) {
      history.replaceState(null, "", location.pathname);
      form.remove();
      said.textContent = `You have joined as ${told.user.email}. You can sign in now.`;
    } else {
      said.textContent = told.detail;
    }
  } catch {
    said.textContent = "The server cannot be reached; try again in a moment.";
  }
});
"""

_PAGE: Final = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>Join your team</title>
<style>body{{font:16px/1.5 system-ui,sans-serif;max-width:32rem;margin:4rem auto;padding:0 1rem;color:#222}}
label{{display:block;margin:.75rem 0}}input{{display:block;font:inherit;width:100%;padding:.4rem;box-sizing:border-box}}
button{{font:inherit;padding:.5rem 1.25rem;border:0;border-radius:.4rem;background:#222;color:#fff}}</style></head>
<body><h1>Join your team</h1><form>
<label>Your name <input name="name" autocomplete="name" maxlength="200"></label>
<label>A password of {passwords.MIN_CHARACTERS} characters or more
<input name="password" type="password" autocomplete="new-password" minlength="{passwords.MIN_CHARACTERS}" required>
</label>
<button>Join</button></form><p role="status"></p><script>{_SCRIPT}</script></body></html>
"""

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()}'; "
    "form-action 'none'; frame-ancestors 'none'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}


@router.get("/join")
async def page() -> HTMLResponse:
    """Return the page; it is the same for everybody."""
    return HTMLResponse(_PAGE, headers=_HEADERS)
