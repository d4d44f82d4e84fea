// A Modbus master on npm's jsmodbus, a process of its own: jsmodbus_client.js MODULES FRAMING tcp PORT SECONDS |
// MODULES FRAMING serial PATH SECONDS.
// It behaves as pymodbus_client.py does. Its library has no mask write.
"use strict"
const net = require("net")
const path = require("path")
const readline = require("readline")
const [modules, framing, transport, where, seconds] = process.argv.slice(2)
const jsmodbus = require(path.join(modules, "jsmodbus"))

const calls = {
	read_coils: (c, q) => c.readCoils(q.address, q.count),
	read_discrete: (c, q) => c.readDiscreteInputs(q.address, q.count),
	read_holding: (c, q) => c.readHoldingRegisters(q.address, q.count),
	read_input: (c, q) => c.readInputRegisters(q.address, q.count),
	write_coil: (c, q) => c.writeSingleCoil(q.address, q.values[0] !== 0),
	write_coils: (c, q) => c.writeMultipleCoils(q.address, q.values),
	write_register: (c, q) => c.writeSingleRegister(q.address, q.values[0]),
	write_registers: (c, q) => c.writeMultipleRegisters(q.address, q.values),
}
const clients = {}
let line

// A socket for each unit: two clients on one take each other's answers.
async function clientOf(unit) {
	if (clients[unit])
		return clients[unit]
	if (transport === "tcp") {
		const socket = net.connect(Number(where), "127.0.0.1")
		clients[unit] = new jsmodbus.client.TCP(socket, unit, 1000 * seconds)
		await new Promise(done => socket.once("connect", done))
	} else {
		const {SerialPort} = require(path.join(modules, "serialport"))
		const port = line || new SerialPort({path: where, baudRate: 19200})
		clients[unit] = new jsmodbus.client.RTU(port, unit, 1000 * seconds)
		if (!line)
			await new Promise(done => port.once("open", done))
		line = port
	}
	return clients[unit]
}

async function answer(q) {
	try {
		const {response} = await calls[q.call](await clientOf(q.unit), q)
		return {values: q.count ? Array.from(response.body.valuesAsArray).slice(0, q.count) : []}
	} catch (e) {
		return e.err === "ModbusException" ? {exception: e.response.body.code} : {error: String(e.err || e)}
	}
}

async function main() {
	await clientOf(1)
	console.log(JSON.stringify({ready: true}))
	for await (const line of readline.createInterface({input: process.stdin}))
		console.log(JSON.stringify(await answer(JSON.parse(line))))
	process.exit(0)
}

main()
