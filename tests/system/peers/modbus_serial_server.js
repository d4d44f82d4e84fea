// A Modbus server on npm's modbus-serial, a process of its own: modbus_serial_server.js MODULES tcp PORT | MODULES serial PATH.
// It behaves as pymodbus_server.py does; RTU on a serial line. Its library has no mask write.
"use strict"
const path = require("path")
const readline = require("readline")
const [modules, transport, where] = process.argv.slice(2)
const modbus = require(path.join(modules, "modbus-serial"))

const units = {}
for (const id of [1, 2])
	units[id] = Object.fromEntries(["coil", "discrete", "holding", "input"].map(table => [table, new Uint16Array(20000)]))

const get = table => (address, unit) => units[unit][table][address]
const set = table => (address, value, unit) => {
	units[unit][table][address] = value
}
const vector = {
	getCoil: (address, unit) => units[unit].coil[address] === 1,
	getDiscreteInput: (address, unit) => units[unit].discrete[address] === 1,
	getHoldingRegister: get("holding"),
	getInputRegister: get("input"),
	setCoil: set("coil"),
	setRegister: set("holding"),
}

function ready() {
	console.log(JSON.stringify({ready: true}))
	readline.createInterface({input: process.stdin}).on("line", line => {
		const q = JSON.parse(line)
		const table = units[q.unit][q.table]
		if (q.values)
			table.set(q.values, q.address)
		console.log(JSON.stringify(q.values ? {} : {values: Array.from(table.slice(q.address, q.address + q.count))}))
	}).on("close", () => process.exit(0))
}

const server = transport === "tcp" ?
	new modbus.ServerTCP(vector, {host: "127.0.0.1", port: Number(where), unitID: 255}) :
	new modbus.ServerSerial(vector, {path: where, baudRate: 19200, unitID: 255})
server.on("initialized", ready)
server.on("error", e => console.error(e))
