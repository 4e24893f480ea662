// Looks at the status page with Chromium, as tests/it/page.rs says on the command line:
//
//   node check.cjs cluster URL COUNT [SCREENSHOTS]
//       sees COUNT members up, asks for one to be killed, sees it down without a reload
//   node check.cjs token URL TOKEN
//       is asked for the token, and sees members once it gave the right one
//
// Ends with 1 and the reason when something is not as it should be. `kill NODE` on the
// output asks for that node's death.
"use strict";
const assert = require("node:assert/strict");
const path = require("node:path");
const { chromium } = require("playwright-core");
const axe = require("axe-core");

const [mode, url, argument, screenshots] = process.argv.slice(2);
const TIMEOUT = 30_000;
// Rows of members, by status.
const rows = status => `#members tr[data-status="${status}"]`;
const count = (page, selector, wanted) => page.waitForFunction(
  ([selector, wanted]) => document.querySelectorAll(selector).length === wanted,
  [selector, wanted], { timeout: TIMEOUT });

async function accessible(page, where) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document));
  const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(n => n.html).join(" ")}`);
  assert.deepEqual(found, [], `axe, ${where}`);
}

async function cluster(page, shoot) {
  await page.goto(url);
  await count(page, rows("up"), Number(argument));
  await page.evaluate(() => { globalThis.sameLoad = true; });
  assert.match(await page.textContent("#ready"), /Ready/);
  await page.waitForSelector("#events time", { timeout: TIMEOUT });
  // Every member tells whom it reaches: itself and, over a link, each of the others.
  const told = Number(argument) ** 2;
  await count(page, "#reach td.itself, #reach td.connected", told);
  assert.equal(await page.locator("#reach td").count(), told);
  for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    await accessible(page, colorScheme);
    await shoot(colorScheme);
  }
  // The tables are reached without a mouse, whether they scroll or not.
  for (const table of ["Table of members", "Who reaches whom"]) {
    await page.keyboard.press("Tab");
    const label = () => document.activeElement.getAttribute("aria-label");
    assert.equal(await page.evaluate(label), table);
  }
  // One column on a phone, nothing beyond its edge.
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 375, height: 812 });
  const edge = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(edge <= 375, `${edge} pixels wide on a phone`);
  await accessible(page, "phone");
  await shoot("phone");
  await page.setViewportSize({ width: 1280, height: 900 });
  // Nothing can be pressed or followed: there is no way to change anything.
  assert.equal(await page.locator("button:visible, a[href], input:visible").count(), 0);

  const last = page.locator(rows("up")).filter({ hasNotText: "(this node)" }).last();
  const node = await last.getAttribute("data-node");
  process.stdout.write(`kill ${node}\n`);
  await page.waitForSelector(`tr[data-node="${node}"][data-status="down"]`, { timeout: TIMEOUT });
  await page.waitForSelector(`#events li:has-text("${node}"):has-text("down")`);
  // What the dead one has is not guessed, and that the others lost it is theirs to say.
  const line = `#reach tr[data-from="${node}"] td`;
  await page.waitForSelector(`${line}:has-text("not asked: it is down")`, { timeout: TIMEOUT });
  assert.equal(await page.locator(line).count(), 1);
  await count(page, "#reach td.down", Number(argument) - 1);
  assert.ok(await page.evaluate(() => globalThis.sameLoad), "the page was loaded again");
  await accessible(page, "with a member down");
  await shoot("down");
}

async function token(page) {
  await page.goto(url);
  await page.waitForSelector("#login:not([hidden])", { timeout: TIMEOUT });
  assert.equal(await page.locator("#members tr").count(), 0, "data without the token");
  assert.equal(await page.evaluate(() => document.activeElement.id), "token");
  await accessible(page, "login");
  await page.keyboard.type(argument);
  await page.keyboard.press("Enter");
  await count(page, rows("up"), 1);
  await page.reload();
  await count(page, rows("up"), 1);
}

async function wrongToken(page) {
  await page.goto(url);
  await page.fill("#token", "not the token");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#trouble:has-text('not the token')", { timeout: TIMEOUT });
  assert.equal(await page.locator("#members tr").count(), 0, "data with a wrong token");
}

(async () => {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || "/usr/bin/chromium",
    // The sandbox needs another user than root; the page is our own.
    chromiumSandbox: process.getuid() !== 0,
    args: ["--disable-dev-shm-usage", "--disable-gpu"],
  });
  const open = async check => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
    const page = await context.newPage();
    const complaints = [];
    page.on("console", message => {
      if (["error", "warning"].includes(message.type())) complaints.push(message.text());
    });
    page.on("pageerror", error => complaints.push(error.message));
    const shoot = async name => {
      if (screenshots) {
        await page.screenshot({ path: path.join(screenshots, `status-page-${name}.png`) });
      }
    };
    await check(page, shoot);
    await context.close();
    return complaints;
  };
  try {
    const complaints = await open({ cluster, token }[mode]);
    assert.deepEqual(complaints, [], "the console");
    // The browser itself reports the refusal that is meant to come.
    if (mode === "token") await open(wrongToken);
  } finally {
    await browser.close();
  }
})().catch(error => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
