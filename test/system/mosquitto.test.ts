import { whyMissing } from "../../build/system-packages.ts";
import { agentSuite } from "../support/agent-suite.ts";
import { startMosquitto } from "../support/broker-under-test.ts";

agentSuite({ name: "Mosquitto", start: startMosquitto, whyNot: () => whyMissing("mosquitto") });
