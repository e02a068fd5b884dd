"""What the script does in a real browser, on a website of another origin than ours."""

import time

import pytest
from playwright.async_api import Browser, BrowserContext, Page

from tests.api.websites import LEAD
from tests.browser.conftest import Shop
from tests.eventually import eventually

READY = "() => window.throughline && window.throughline.track"


async def open_page(page: Page, url: str) -> None:
    await page.goto(url)
    await page.wait_for_function(READY)


async def browser_id(page: Page) -> str:
    return await page.evaluate("throughline.anonymousId()")


async def test_pages_are_seen_under_one_id_kept_in_a_cookie_of_the_site(
    shop: Shop, page: Page, visitor: BrowserContext
) -> None:
    await open_page(page, f"{shop.url}/start?utm_source=ad&utm_campaign=spring&other=1")
    first = await browser_id(page)
    await page.click("a")
    await page.wait_for_function(READY)
    assert await browser_id(page) == first
    one, two = await shop.seen("page.viewed", 2)
    assert (one["path"], one["title"], one["utm_source"], one["utm_campaign"]) == ("/start", "/start", "ad", "spring")
    assert one["url"] == f"{shop.url}/start?utm_source=ad&utm_campaign=spring&other=1"
    assert "other" not in one
    assert two["referrer"] == one["url"]
    assert one["person"] == two["person"]
    (cookie,) = await visitor.cookies()
    assert (cookie.get("name"), cookie.get("value"), cookie.get("sameSite")) == ("tl_id", first, "Lax")
    assert 399 < (cookie.get("expires", 0) - time.time()) / 86_400 <= 400


async def test_the_id_comes_back_where_the_cookie_was_lost(shop: Shop, page: Page, visitor: BrowserContext) -> None:
    await open_page(page, shop.url)
    first = await browser_id(page)
    await visitor.clear_cookies()
    await open_page(page, shop.url)
    assert await browser_id(page) == first


async def test_addresses_that_a_page_gives_itself_count_once_each(shop: Shop, page: Page) -> None:
    await open_page(page, f"{shop.url}/app")
    await shop.seen("page.viewed")  # of what two requests tell in the same moment, either may count as the earlier
    await page.evaluate("history.replaceState({}, '', '/app'); history.pushState({}, '', '/app')")
    await page.evaluate("history.pushState({}, '', '/app/one'); document.title = 'One'")
    await shop.seen("page.viewed", 2)
    await page.evaluate("location.hash = 'top'")
    await page.evaluate("history.pushState({}, '', '/app/two')")
    await shop.seen("page.viewed", 3)
    await page.evaluate("history.go(-2)")
    views = await shop.seen("page.viewed", 4)
    assert [(view["path"], view["title"]) for view in views] == [
        ("/app", "/app"),
        ("/app/one", "One"),
        ("/app/two", "One"),
        ("/app/one", "One"),
    ]


async def test_calls_made_before_the_script_is_there_wait_for_it(shop: Shop, page: Page) -> None:
    shop.head = (
        "<script>window.throughline = window.throughline || [];"
        'throughline.push(["track", "video.played", {seconds: 3}]);'
        'throughline.push(["identify", {email: "ann@shop.example", first_name: "Ann"}]);</script>'
    )
    await open_page(page, shop.url)
    (played,) = await shop.seen("video.played")
    assert played["seconds"] == 3

    async def known() -> bool:
        return [person["email"] for person in await shop.people()] == ["ann@shop.example"]

    await eventually(known)
    await page.evaluate("throughline.push(['track', 'video.stopped'])")
    (stopped,) = await shop.seen("video.stopped")
    assert stopped["person"] == played["person"]


async def test_a_second_known_person_gets_an_id_of_his_own(shop: Shop, page: Page, visitor: BrowserContext) -> None:
    await open_page(page, shop.url)
    anns = await browser_id(page)
    await page.evaluate("throughline.identify({email: 'ann@shop.example'}); throughline.track('ann.acted')")
    await shop.seen("ann.acted")
    await page.evaluate("throughline.identify({email: 'bob@shop.example'}); throughline.track('bob.acted')")
    (bob,) = await shop.seen("bob.acted")
    bobs = await browser_id(page)
    assert bobs != anns
    assert [cookie.get("value") for cookie in await visitor.cookies()] == [bobs]
    people = {person["email"]: person["id"] for person in await shop.people()}
    assert set(people) == {"ann@shop.example", "bob@shop.example"}
    assert bob["person"] == people["bob@shop.example"]
    await page.evaluate("throughline.identify({email: 'bob@shop.example'}); throughline.track('bob.again')")
    await shop.seen("bob.again")
    assert await browser_id(page) == bobs


async def test_reset_makes_a_stranger_of_the_browser(shop: Shop, page: Page) -> None:
    await open_page(page, shop.url)
    await page.evaluate("throughline.identify({email: 'ann@shop.example'}); throughline.track('one.done')")
    await page.evaluate("throughline.reset(); throughline.track('two.done')")
    (one,), (two,) = await shop.seen("one.done"), await shop.seen("two.done")
    assert one["person"] != two["person"]
    assert sorted(str(person["email"]) for person in await shop.people()) == ["None", "ann@shop.example"]


async def test_what_happens_offline_arrives_later_even_from_another_page(
    shop: Shop, page: Page, visitor: BrowserContext
) -> None:
    await open_page(page, shop.url)
    await shop.seen("page.viewed")
    await visitor.set_offline(True)
    for number in range(3):
        await page.evaluate("n => throughline.track('cart.filled', {n})", number)
    await page.evaluate("throughline.identify({email: 'ann@shop.example'})")
    assert await shop.events("cart.filled") == []
    await page.close()  # ends the page's being offline too: what it tells while it is left may go out from here
    await visitor.set_offline(False)
    await open_page(await visitor.new_page(), f"{shop.url}/back")
    filled = await shop.seen("cart.filled", 3)
    assert sorted(item["n"] for item in filled) == [0, 1, 2]
    await shop.seen("page.viewed", 2)

    async def known() -> bool:
        return [person["email"] for person in await shop.people()] == ["ann@shop.example"]

    await eventually(known)


async def test_the_queue_goes_out_once_the_browser_is_online_again(
    shop: Shop, page: Page, visitor: BrowserContext
) -> None:
    await open_page(page, shop.url)
    await shop.seen("page.viewed")
    await visitor.set_offline(True)
    await page.evaluate("for (let n = 0; n < 150; n++) throughline.track('list.scrolled', {n})")
    await visitor.set_offline(False)
    scrolled = await shop.seen("list.scrolled", 100)
    assert sorted(item["n"] for item in scrolled) == list(range(50, 150))


async def test_what_is_told_while_the_page_is_left_arrives_once(shop: Shop, page: Page) -> None:
    shop.body = (
        "<script>addEventListener('pagehide', () => {"
        "for (let n = 0; n < 5; n++) throughline.track('page.left', {n}) })</script>"
    )
    await open_page(page, shop.url)
    await shop.seen("page.viewed")
    await page.goto("about:blank")
    assert 1 <= len(await eventually(lambda: shop.events("page.left"))) <= 5
    shop.body = ""
    await open_page(page, f"{shop.url}/back")
    left = await shop.seen("page.left", 5)
    assert sorted(item["n"] for item in left) == [0, 1, 2, 3, 4]


async def test_who_asks_not_to_be_tracked_is_not_where_the_site_respects_it(shop: Shop, chromium: Browser) -> None:
    shop.options = "data-respect-privacy"
    context = await chromium.new_context()
    await context.add_init_script("Object.defineProperty(navigator, 'globalPrivacyControl', {value: true})")
    page = await context.new_page()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url))
    await open_page(page, shop.url)
    await page.evaluate("throughline.track('a.b'); throughline.identify({email: 'ann@shop.example'})")
    assert await context.cookies() == []
    assert await page.evaluate("localStorage.length") == 0
    shop.options = ""
    await open_page(page, shop.url)  # where it does not, they are
    await shop.seen("page.viewed")
    assert sum(url.endswith("/t/e") for url in sent) == 1
    await context.close()


async def test_another_website_cannot_use_the_key(shop: Shop, page: Page) -> None:
    await shop.api.patch("/v1/tenant", json={"allowed_origins": ["https://other.example"]})
    async with page.expect_event("requestfailed", lambda request: request.url.endswith("/t/e")):
        await open_page(page, shop.url)
    assert await shop.people() == []


@pytest.fixture
async def lead(shop: Shop) -> Shop:
    """The website with the form on every page."""
    made = await shop.api.post("/v1/forms", json=LEAD)
    shop.form = made.json()
    shop.body = shop.form["html"]
    return shop


async def test_a_form_is_sent_by_the_script_and_its_visitor_known(lead: Shop, page: Page) -> None:
    await open_page(page, f"{lead.url}/contact")
    await page.get_by_label("Email").fill("ann@shop")
    await page.get_by_role("button", name="Send").click()
    alert = page.get_by_role("alert")
    await alert.wait_for()
    assert "Email: is not an email address" in await alert.inner_text()
    assert await page.get_by_label("Email").get_attribute("aria-invalid") == "true"

    await page.get_by_label("Email").fill("ann@shop.example")
    await page.get_by_label("First name").fill("Ann")
    await page.get_by_label("News by mail").check()
    await page.get_by_role("button", name="Send").dblclick()
    status = page.get_by_role("status")
    await status.wait_for()
    assert await status.inner_text() == "We will write to you."
    assert page.url == f"{lead.url}/contact"
    assert await page.get_by_label("Email").input_value() == ""
    await page.get_by_label("Email").fill("ann@shop.example")
    async with page.expect_response("**/forms/*") as again:
        await page.get_by_role("button", name="Send").click()
    assert (await again.value).ok
    one, two = await lead.seen("form.submitted", 2)
    assert one["url"] == f"{lead.url}/contact"
    assert one["person"] == two["person"]
    (person,) = await lead.people()
    assert (person["email"], person["first_name"]) == ("ann@shop.example", "Ann")
    assert [consent["status"] for consent in person["consent"]] == ["opted_in"]
    (view,) = await lead.seen("page.viewed")
    assert view["person"] == person["id"]


async def test_a_form_leads_on(lead: Shop, page: Page) -> None:
    target = f"{lead.url}/thanks"
    await lead.api.patch(f"/v1/forms/{lead.form['id']}", json={"redirect_url": target})
    await open_page(page, f"{lead.url}/contact")
    await page.get_by_label("Email").fill("ann@shop.example")
    await page.get_by_role("button", name="Send").click()
    await page.wait_for_url(target)
    await lead.seen("form.submitted")


async def test_where_the_script_may_not_send_the_browser_does(lead: Shop, page: Page) -> None:
    await lead.api.patch("/v1/tenant", json={"allowed_origins": ["https://other.example"]})
    await open_page(page, f"{lead.url}/contact")
    await page.get_by_label("Email").fill("ann@shop.example")
    await page.get_by_role("button", name="Send").click()
    await page.wait_for_url(lead.form["url"])
    assert "We will write to you." in await page.inner_text("body")
    await lead.seen("form.submitted")


async def test_without_a_script_the_form_and_its_page_work_as_well(lead: Shop, chromium: Browser) -> None:
    context = await chromium.new_context(java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{lead.url}/contact")
    await page.get_by_label("Email").fill("ann@shop.example")
    await page.get_by_role("button", name="Send").click()
    assert "We will write to you." in await page.inner_text("body")

    target = f"{lead.url}/thanks"
    await lead.api.patch(f"/v1/forms/{lead.form['id']}", json={"redirect_url": target})
    await page.goto(f"{lead.form['url']}?email=bob@shop.example")
    await page.get_by_label("Seats").fill("many")
    await page.get_by_label("Plan").select_option("Pro")
    await page.get_by_role("button", name="Send").click()  # too quickly, too
    assert await page.title() == "Please check: Talk to us"
    assert await page.get_by_label("Email").input_value() == "bob@shop.example"
    assert await page.get_by_label("Plan").input_value() == "Pro"
    await page.get_by_label("Seats").fill("7")

    async def sent() -> bool:
        await page.get_by_role("button", name="Send").click()
        return page.url == target

    await eventually(sent)
    assert len(await lead.seen("form.submitted", 2)) == 2
    assert {person["email"] for person in await lead.people()} == {"ann@shop.example", "bob@shop.example"}
    await context.close()
