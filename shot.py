import sys

from playwright.sync_api import sync_playwright

url, out = sys.argv[1], sys.argv[2]
with sync_playwright() as p:
    b = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
    pg = b.new_page(viewport={"width": 1500, "height": 1000})
    pg.goto(url)
    pg.wait_for_timeout(15000)
    pg.screenshot(path=out + "-1.png")
    print(pg.evaluate("document.body.innerText")[:3000])
    b.close()
