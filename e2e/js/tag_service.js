// The JavaScript stack as a process: a request on each line of the input, its outcome on a line of the output.
//
// node tag_service.js ENDPOINT ACCESS_KEY_ID SECRET_ACCESS_KEY
'use strict';

const readline = require('readline');
const {BceBaseClient} = require('@baiducloud/sdk');

const [endpoint, ak, sk] = process.argv.slice(2);
const client = new BceBaseClient({endpoint, credentials: {ak, sk}}, 'tag');

async function outcome({method, path, params, body}) {
  try {
    const done = await client.sendRequest(method, path, {params, body});
    return {status: 200, request_id: done.http_headers['x-bce-request-id'], body: done.body};
  } catch (error) {
    if (!error.code || !error.status_code) throw error;
    return {status: error.status_code, code: error.code, message: error.message, request_id: error.request_id};
  }
}

(async () => {
  for await (const line of readline.createInterface({input: process.stdin})) {
    process.stdout.write(JSON.stringify(await outcome(JSON.parse(line))) + '\n');
  }
})();
