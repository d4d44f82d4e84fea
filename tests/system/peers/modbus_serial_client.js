// A Modbus master on npm's modbus-serial, a process of its own: modbus_serial_client.js MODULES FRAMING tcp PORT
// SECONDS | MODULES FRAMING serial PATH SECONDS. It behaves as pymodbus_client.py does.
"use strict"
const path = require("path")
const readline = require("readline")
const [modules, framing, transport, where, seconds] = process.argv.slice(2)
const Modbus = require(path.join(modules, "modbus-serial"))

const connects = {
	"TCP tcp": c => c.connectTCP("127.0.0.1", {port: Number(where)}),
	"RTU tcp": c => c.connectTelnet("127.0.0.1", {port: Number(where)}),
	"RTU serial": c => c.connectRTUBuffered(where, {baudRate: 19200}),
	"ASCII serial": c => c.connectAsciiSerial(where, {baudRate: 19200}),
}
const calls = {
	read_coils: (c, q) => c.readCoils(q.address, q.count),
	read_discrete: (c, q) => c.readDiscreteInputs(q.address, q.count),
	read_holding: (c, q) => c.readHoldingRegisters(q.address, q.count),
	read_input: (c, q) => c.readInputRegisters(q.address, q.count),
	write_coil: (c, q) => c.writeCoil(q.address, q.values[0] !== 0),
	write_coils: (c, q) => c.writeCoils(q.address, q.values.map(v => v !== 0)),
	write_register: (c, q) => c.writeRegister(q.address, q.values[0]),
	write_registers: (c, q) => c.writeRegisters(q.address, q.values),
	mask: (c, q) => c.maskWriteRegister(q.address, q.masks[0], q.masks[1]),
}

async function answer(client, q) {
	client.setID(q.unit)
	try {
		const result = await calls[q.call](client, q)
		return {values: q.count ? result.data.slice(0, q.count).map(Number) : []}
	} catch (e) {
		return e.modbusCode ? {exception: e.modbusCode} : {error: String(e.message)}
	}
}

async function main() {
	const client = new Modbus()
	await connects[framing + " " + transport](client)
	client.setTimeout(1000 * seconds)
	console.log(JSON.stringify({ready: true}))
	for await (const line of readline.createInterface({input: process.stdin}))
		console.log(JSON.stringify(await answer(client, JSON.parse(line))))
	process.exit(0)
}

main()
