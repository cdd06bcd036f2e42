// A real OpenID Connect provider for the tests: the npm package oidc-provider, with people who sign in without a form.
//
//     node provider.mjs PORT
//
// Prints "ready" and serves until its standard input closes. What a test may set is posted as JSON to /test/set:
//   base         address of the Parley that signs people in here
//   person       claims of whoever signs in next; null: they refuse
//   substitute   an ID token that the token endpoint sends instead of its own, until null is set
//   rotate       true: sign with a new key from now on, and know the old one no more
// /test/id_token returns the last ID token that the token endpoint made.
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { Provider } from 'oidc-provider';
import { exportJWK, generateKeyPair } from 'jose';

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const state = { base: 'http://localhost:1', person: { sub: 'ada' }, substitute: null, last: null };
const people = new Map();
let provider;
let handle;

async function key() {
  const { privateKey } = await generateKeyPair('ES256', { extractable: true });
  return { ...(await exportJWK(privateKey)), kid: randomUUID(), use: 'sig', alg: 'ES256' };
}

let keys = [await key()];

function client(id, base) {
  return {
    client_id: id,
    client_secret: `secret-of-${id}`,
    redirect_uris: [`${base}/auth/oidc/callback`],
    post_logout_redirect_uris: [`${base}/login`],
    backchannel_logout_uri: `${base}/auth/oidc/ended`,
    backchannel_logout_session_required: true,
    id_token_signed_response_alg: 'ES256',
  };
}

function build() {
  provider = new Provider(issuer, {
    clients: [client('parley', state.base), client('other', state.base)],
    jwks: { keys },
    cookies: { keys: ['of-the-tests'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name'], groups: ['groups'] },
    scopes: ['openid', 'offline_access', 'email', 'profile', 'groups'],
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    // The package's own refuses to speak to this machine, where the Parley of a test runs.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    features: {
      devInteractions: { enabled: false },
      backchannelLogout: { enabled: true },
      rpInitiatedLogout: {
        enabled: true,
        logoutSource: (ctx, form) => {
          ctx.body = `<!doctype html><body>${form}<script>
            const form = document.forms[0];
            const yes = document.createElement('input');
            yes.type = 'hidden'; yes.name = 'logout'; yes.value = 'yes';
            form.append(yes); form.submit();</script>`;
        },
      },
    },
    interactions: { url: (ctx, interaction) => `/test/interaction/${interaction.uid}` },
    findAccount: (ctx, sub) => ({ accountId: sub, claims: () => people.get(sub) ?? { sub } }),
    renderError: (ctx, out) => { ctx.body = out; },
  });
  provider.use(async (ctx, next) => {
    await next();
    if (ctx.path === '/token' && ctx.body?.id_token) {
      state.last = ctx.body.id_token;
      if (state.substitute) ctx.body.id_token = state.substitute;
    }
  });
  provider.on('server_error', (ctx, error) => console.error(error));
  handle = provider.callback();
}

async function interaction(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (!state.person) {
    const refusal = { error: 'access_denied', error_description: 'They said no.' };
    return provider.interactionFinished(request, response, refusal);
  }
  if (prompt.name === 'login') {
    return provider.interactionFinished(request, response, { login: { accountId: state.person.sub } });
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

async function set(request, response) {
  const parts = [];
  for await (const part of request) parts.push(part);
  const { rotate, ...wanted } = JSON.parse(Buffer.concat(parts));
  const rebuilt = rotate || (wanted.base && wanted.base !== state.base);
  Object.assign(state, wanted);
  if (wanted.person) people.set(wanted.person.sub, wanted.person);
  if (rotate) keys = [await key()];
  if (rebuilt) build();
  response.end('{}');
}

build();
createServer(async (request, response) => {
  try {
    if (request.url === '/test/set') await set(request, response);
    else if (request.url === '/test/id_token') response.end(JSON.stringify(state.last));
    else if (request.url.startsWith('/test/interaction/')) await interaction(request, response);
    else await handle(request, response);
  } catch (error) {
    console.error(error);
    response.statusCode = 500;
    response.end(String(error));
  }
}).listen(port, '127.0.0.1', () => console.log('ready'));
process.stdin.resume().on('end', () => process.exit(0));
