// Preloaded into Azurite. By itself it reads its accounts once a minute, from an environment that
// nobody else can change; here it reads them from a file, when it is told to (SIGUSR2).
"use strict";
const fs = require("fs");
const file = process.env.FAKE_ACCOUNTS_FILE;
const refreshers = [];
const read = () => {
  process.env.AZURITE_ACCOUNTS = fs.readFileSync(file, "utf8");
};
read();
const every = globalThis.setInterval;
globalThis.setInterval = (body, pause, ...rest) => {
  if (pause === 60000) refreshers.push(body);
  return every(body, pause, ...rest);
};
process.on("SIGUSR2", () => {
  read();
  refreshers.forEach((refresh) => refresh());
  fs.writeFileSync(`${file}.seen`, process.env.AZURITE_ACCOUNTS, { mode: 0o600 });
});
