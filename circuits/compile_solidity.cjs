// Compiles one Solidity file with solc-js under the settings given as JSON; prints {version, code} or {error}.
// argv: path of solc's package, path of the source, path of the settings. Nothing here chooses a setting.
'use strict';
const fs = require('fs');
const [solcPath, sourcePath, settingsPath] = process.argv.slice(2);
const solc = require(solcPath);
const settings = JSON.parse(fs.readFileSync(settingsPath, 'utf8'));
const answer = (value) => fs.writeSync(1, JSON.stringify(value) + '\n');
const source = { 'verifier.sol': { content: fs.readFileSync(sourcePath, 'utf8') } };
const output = JSON.parse(solc.compile(JSON.stringify({ language: 'Solidity', sources: source, settings })));
const errors = (output.errors || []).filter((each) => each.severity === 'error');
if (errors.length) {
  answer({ error: errors[0].formattedMessage });
} else {
  const contracts = Object.values(output.contracts['verifier.sol']);
  if (contracts.length !== 1) {
    answer({ error: `expected one contract, found ${contracts.length}` });
  } else {
    answer({ version: solc.version(), code: contracts[0].evm.deployedBytecode.object });
  }
}
