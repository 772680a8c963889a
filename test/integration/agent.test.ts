import { agentSuite } from "../support/agent-suite.ts";
import { startOwnService } from "../support/broker-under-test.ts";

agentSuite({ name: "our own service", start: startOwnService });
