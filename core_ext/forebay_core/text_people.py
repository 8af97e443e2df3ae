"""What the rules for names and addresses know: surnames, characters of given names, words around them.

Data only, shared by the text kernel and its twin. All lists are our own: surnames after the frequencies that the
Ministry of Public Security publishes, characters of given names by what is common in them, words from forms,
tickets and logs of plants and cities.
"""

from __future__ import annotations

from forebay_core.text_divisions import COUNTIES, PROVINCES_AND_CITIES


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


COMMON_SURNAMES = (
    "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高郑梁谢宋唐许韩邓冯曹彭曾肖田董潘袁蔡蒋余于杜叶程魏苏吕丁任卢"
    "姚沈钟姜崔谭陆范汪廖石金韦贾夏付方邹熊白孟秦邱侯江尹薛闫段雷龙黎史陶贺毛傅洪萧郝顾龚邵万覃武钱戴严莫"
    "孔向汤"
)
"""Of about 85 in 100 people."""
SURNAMES = (
    "常温康施文牛樊葛邢安齐易乔伍庞颜倪庄聂章鲁岳翟殷詹申欧耿关兰焦俞左柳甘祝包宁尚符舒阮柯纪梅童凌毕单季"
    "裴霍涂成苗谷盛曲翁冉骆蓝路游辛靳管柴蒙鲍华喻祁蒲房滕屈饶解牟艾尤阳时穆农司卓古吉缪简车项连芦麦褚娄窦"
    "戚岑景党宫费卜冷晏席卫米柏宗瞿桂全佟应臧闵苟邬边卞伊练植姬师和仇栾隋商刁沙荣巫寇桑郎甄丛仲虞敖巩明佘"
    "池查麻苑迟邝官封谈匡鞠惠荆乐冀胥南班储原栗燕楚鄢扶奚廉狄茅裘郁厉蔺屠薄诸宣"
)
RARE_SURNAMES = (
    "强祖尧谌湛辜綦郜巴幸朴荀晋昌粟敬竺旷衣乌寿庹矫甯阎邰仝来亓逄蹇酆佴郏畅肇蔚芮羿糜松弓牧隗山宓蓬郗印宿"
    "怀从索咸籍赖堵宰郦雍却璩濮扈燎冀浦尤温别晏柴瞿充慕茹习宦鱼容慎戈庾终暨居衡步都满弘国寇广禄阙东殳沃利"
    "越夔隆师巩厍晁勾敖融訾辛阚那空毋乜养须丰巢蒯相后红权逯盖益桓公付藏展肆凤闫缑亢况有琴伯赏年哈谯墨爱笪"
    "佟言福代揭候水贡帅贝邸鹿撒兀普瓮丘修冼冒初线云战计雒禹由行闻莘党翟谭劳姬申扶冉花皮伏危昝贲杭钮嵇滑羊於汲"
    "邴仰秋暴钭戎束韶蓟鄂阴鬱苍郤区"
)
COMPOUND_SURNAMES = _list("""
欧阳 上官 司马 诸葛 司徒 夏侯 皇甫 尉迟 公孙 慕容 长孙 宇文 东方 南宫 独孤 令狐 端木
轩辕 百里 呼延 东郭 西门 澹台 公冶 宗政 濮阳 淳于 单于 太叔 申屠 钟离 闾丘 鲜于 司空
赫连 万俟 闻人 纳兰 完颜
""")

TYPICAL_GIVEN = (
    "伟芳娜敏静丽强磊军洋勇艳杰娟涛超秀霞平刚桂英玉兰萍红玲建国文辉鹏飞斌宇浩凯健俊帆雪荣梅婷鑫雷倩璐琳燕"
    "洁瑜颖晶莹佳嘉欣怡雅琪涵梓轩睿博晨阳泽宸悦诗思梦瑶昊然诺馨妍彤蕾薇菲莉莎娇媛嫣婧婕姗妮娅娥姣婉媚芬芸"
    "芹苹茜茵莲菊菁萌蓉蓓蔓蕊薰虹凤凰鸾鹃雁鹤珍珠玥珊琼瑛琴璇瑞琦珂玫瑾瑗璞铭锋钧铁钢锐锦锴钰钊铮镇淑惠慧"
    "贤贞娴淼淇渊澜瀚沛泓洪润溪滨潇伦俭仁义礼智信德志忠孝勤恒毅坚豪彦哲聪翔腾骏骥骁龙虎彪威猛武彬炜烨焱炎"
    "煜灿焕熙晖晓昕昱旭昌晟晗曦春秋冬柏松楠桐梁栋杉榕樱桃柳枫淞江波浪辰星宏弘鸿彰轶逸奕弈亦振兴旺盛富贵财"
    "祥福禄寿喜庆吉祯祺禧顺康宁安泰和睦邦立培耀祖光宗继承世代传绍先启发展进步友朋伯仲叔季少华中兵战胜利民"
    "生为群众庭楷楚树森林木艺书琛琰翰墨诚谦逊谨恺恬怀忆念慈爱敬尊珺璟珩瑄皓皎月云霄霆震雨露霜冰岚岩峰岳峻"
    "嵩川海湘滢滟漪潮妤姝妙娣嫦芝芙芷若菡萱葵蒙蔚薪苗茂苑茹荷丹彩霓紫青蓝翠碧素白黎明朗亮煌坤乾元亨永长久"
    "远存根柱石山田禾稼保卫东南西北新会朝政法治汉唐宋夏商周学良才士廷臣君卿侠尚可一二三小大连双全成功业勋"
    "凡卓越琨瑕琬娉竹筠筱笑颜妃蝶萤巧灵香锁银金宝贝花凌凝冲冠珏"
)
MORE_GIVEN = (
    "优令道仪畅恩禅懿妈枝洛溢岱嵘谨攀婵嬅妘璎珞榛栀莳蔷蓓芮芃苡茉茵荃萤萱蕴蘅子雨天思心语安如水之以沐奇风"
    "其清景希知乐依舒言羽初尔晚苏夕意念向歌歆音韵律乔乙丁七九力勃勉劲加助千升卉南印原双叶合同名含启咏品唯"
    "善嘉团园圆圣在坊城培堂增士壮多奎奋好妹姐姬姿娃媲孟学宁守宝宣宽宾密寒导山岗岭川左帅常广应庚延开异弟张"
    "弦形影征徐必忱怜恋情惜想愉慎慕成战才扬承拓振捷排敏教斯方施昭昂易映是显晋普曙曼曾月有服朔术权村来松林"
    "果柔柯标格桂梨森楚楼横正殷民永汝沁沙河法洲津济浦深添渝温源滔满漫澄火灵炅炳烈照熊爽牧特玄王球理琢甜生"
    "用甫田男益直相真眉石砚硕磐礼社祖禹秉科秦程稳立章童端第简米粉粤精系红纪纯纲经绍统维缘罗美羚群老耕联聘"
    "肖能自舟良色节苇英范莫营葆蓬藏虎行衡裕西见訓训诏词诠话说谊谋谷象贤赛赞赢起跃路轲辽达迅过运近进连迪通"
    "造遥郁都配里钟钦铃银锡镭镜长门闯闻问阁阔际陆陈隆雄雁集雯震露静非面韬页顶项须领频题飘首马驰驹驻高魁魏"
    "鲁鸣鹏麒麟默齐龄劼奚峥岑崎巍帆帛弛彤彧忻怿悠惟愫愿憬戎旎旖旻昀昶晏暄暖曜朵杭枢枭柠栩桓梵棋棠楷榆槐毓"
    "汐汶沣沅沫泊泠洵浔浠涔涓淳湛滕漾澈濛灏炀烁焓煊熠燊爱爵牡犇狄珈琅琮瑀瑷璃璋璨瓒甄畴盈眸砺碧祎禄禛稷穆"
    "竞笙筝箐篱紫綦纤绎绮绫绵缇缨罡翎翊翌翡聆聿航舜苒苓茗荔荞莘莞菀萧葳葶蒂蓁蓝薛藜衍觅谌谕贇贺赟轾辇迟逍"
    "遇郝郡郦酉釉钥铄铖锟锴镕闵阅陌隽雍雎霁霏靓靖韦韩颐飒馥骅骋骞鲲鸥鹭黛"
)

FUNCTION_CHARS = (
    "的了是不有与或及于从到被把将也都就还又已未要去上下外前后请说称报反投申收送付打叫问找给对往由因等个们"
    "这那此每各我你他她它您吗呢吧啊么很更最再只便却但而且并则虽若即刚才曾经正着过得地所让使令向自跟同拨致"
    "需应须无没别勿均皆按照凭据归属系至距离约近超达降低升高关闭启停泵阀管罐机器表度压量值号码电线站房室层"
    "楼箱柜门窗井池塔炉仓库厂网络路段区县市省镇乡村街道巷栋幢座元户组间处点件套台条份张次回遍油气热冷温湿"
    "流速转频幅相位警告障故修检测巡查护换装卸运吊拆焊漏堵爆燃烟尘噪振脱落断裂松紧磨损坏异错误差率比例数单"
    "账款额价费第两几多某男女岁年月日时分秒早晚午今昨明"
)
"""Never a character of a given name (some are, rarely: 高, 明, 元 and the like are taken out below), and where a
word without a name goes on. An address does not go on over the first two lines of them either."""
_NAMES_TOO = "令烟道高升达元明正应若同经向自时运松多第振相热地应要使过"

STOP_CHARS = (
    "的了是不有与或及于从到被把将也就还又已未要去请说称报投申给对往因个们这那此每我你他她它您吗呢吧啊在收"
    "由叫找派转住让"
)
"""Never in a name nor in an address: one goes on no further, and what follows may be a name."""
FOLLOW_CHARS = "家住来到说向对因为于从能会可想过得着在以用同至本兼代曾处先有"
"""Rarely the end of a given name, often the word behind it."""

TRANSLIT = (
    "阿艾巴拜班本比毕布才达代旦德登迪丁多尔法甫尕噶格根古哈汗合吉加江杰金卡凯坎克肯库拉来兰勒里力丽莉利列"
    "林隆卢路伦罗洛马玛麦曼买梅米木姆穆娜纳那南尼努诺帕佩平普齐其奇恰热仁日茹若萨赛桑沙山莎舍什斯苏孙索塔"
    "泰坦特提吐图托旺维文乌吾西希夏辛雅亚言央扬依伊扎泽赞珍朱孜卓祖娅耶尤玉约则占哲治兹措顿白次别汉洪生阳"
    "坚参久美嘎"
)

FIELD_LABELS = _list("""
姓名 名字 联系人 户主 户名 收件人 收货人 寄件人 发件人 申请人 经办人 持卡人 责任人 负责人
代表人 签收人 投诉人 报警人 报修人 当事人 监护人 法人 被访人 举报人 填报人 审核人 审批人
记录人 交班人 接班人 操作人 检修人 巡检人 作业人 上报人 制表人 复核人 签名 签字 受理人
委托人 被保人 投保人 承租人 出租人 买受人 收款人 付款人 开户人 乘车人 来电人 被告 原告 证人
受害人 嫌疑人 监督人 领用人 保管人 值守人 配偶 紧急人 登记人 真实姓名 开票人 签发人 发起人
处理人 提交人 用户名 审批 审核 制单 复核 经手人 担保人
""")
ROLE_LABELS = _list("""
驾驶人 委托 申领人 销户人 登记 开户人 股东 报案人 受检者 护士长 患儿 书记员 物业 签到
参会人员 出席 送检 复检 周一 周二 周三 周四 周五 周六 周日 我妈 我爸 我爱人 我老公 我老婆
我姐 我哥 老公 老婆 爱人 本人是 保姆 护工 机长 船长 车长 列车长 主持人 申报人 被告人
保证人 继承人 受益人 投标人 持证人 领取人 借款人 失主 户籍 事主 店员 店长 经纪人 中介 群主
楼长 村长 主席 抄表员 安检员 保管员 仓管员 质检员 检验员 驾校 教练 船员 乘务员 收银员 客服
接线员 话务员 志愿者 参保人 参赛者 应聘者 考生 学员 新生 居民 村民 市民 患者 病人 业主
住户 租客 租户 车主 司机 乘客 客户 用户 员工 职工 工人 家属 值班员 巡检员 操作员 值班
巡检 驾驶员 快递员 保安 保洁 学生 家长 老人 护士 医生 医师 老师 民警 网格员 调度员 安全员
管理员 班长 站长 队长 组长 主任 经理 工程师 技术员 电工 焊工 同事 联系 游客 旅客 房东
房主 店主 老板 我叫 我是 本人 名叫 姓名为 孕妇 死者 伤者 男子 女子 丈夫 妻子 儿子 女儿
父亲 母亲 哥哥 姐姐 弟弟 妹妹 党员 书记 所长 科长 处长 局长 校长 院长 厂长 教授 律师
法官 记者 消费者 会员 储户 人员 同学 师傅 访客 来宾 嘉宾 安排 通知 告知
群众 成员 组员 主持 记录 出纳 会计 助理 秘书 值长 部长 市长 县长 区长 镇长 乡长 会长 社长
董事长 总经理 副总 总工 摊主 货主 船主 机主 房客 顾客 队员 学徒 徒弟 舅舅 姑姑 姨妈 表哥
表姐 表弟 表妹 堂哥 堂弟 外公 外婆 孙女 侄子 侄女 女婿 儿媳 岳父 岳母 公公 婆婆 邻居 室友
战友 校友 网友 朋友 男孩 女孩 男童 女童 男婴 女婴 儿童 少年 青年 老太 老汉 辅警 交警 特警
狱警 消防员 救生员 裁判 选手 球员 歌手 演员 导演 作者 译者 监理 工头 领班 厨师 服务员 营业员
售货员 售票员 检票员 押运员 装卸工 搬运工 钳工 木工 瓦工 漆工 清洁工 环卫工 送货员 外卖员
骑手 代驾 买家 卖家 甲方 乙方 代表 监护 许可人 抄送 寄件 收件 发件 领导 列席 缺席 参会 见证人
""")
TITLES = _list("""
先生 女士 小姐 同志 师傅 老师 医生 护士 大夫 阿姨 大爷 大妈 大叔 奶奶 爷爷 叔叔 伯伯
老人 同学 律师 教授 警官 民警 工程师 主任 经理 队长 站长 班长 组长 厂长 所长 校长 院长
科长 处长 局长 书记 主管 总监 老板 博士 法官 医师 技师 班组长 驾驶员 (男 (女
""")
AFTER_NAME = _list("""
持股 让我 让你 叫我 说的 捡到 协助 称被 称其 驾车 闯红 超速 拒不 入职 离职 退休 当选
获得 捐款 借款 还款 欠费 缴费 充值 反映 反馈 投诉 报修 报警 来电 致电 表示 要求 申请
办理 签字 签收 确认 说明 登记 咨询 举报 建议 求助 希望 认为 今天 昨天 明天 今日 昨日
上午 下午 现场 到场 到达 已经 住在 家住 家中 手机 电话 身份 号码 联系 车牌 驾驶 巡检
检修 处理 完成 负责 发现 上报 值班 交班 接班 正在 不在 没有 因为 由于 同意 拒绝 自称
曾经 当时 住址 地址 性别 年龄 出生 民族 籍贯 户籍 职业 单位 工号 邮箱 微信 证件 护照
卡号 账号 开户 名下 通过 提交 收到 领取 购买 支付 转账 汇款 提出 回复 回电 告知 通知
发来 打来 拨打 留言 留下 预约 挂号 就诊 住院 出院 入院 体检 前来 前往 赶到 进行 负伤
受伤 摔倒 被困 死亡 失踪 走失 报名 签约 退款 退货 催单 下单 取件 派送 名片 更换 维修
安装 操作 开启 关闭 停机 启动 记录 填写 审核 审批 批准 签发 发起 跟进 有限 公司 等人
等三 等二 等四 夫妇 夫妻 一家 家属 家里 之子 之女 的手 的电 的身 陪同 带领 组织 参加
出席 主持 担任 兼任 作为 手持 携带 乘坐 名义 本人 亲自 来访 到访 进入 离开 到期 来站
请假 打卡 刷卡 迟到 换班 替班 顶班 交接 接替 接手 接听
上门 下车 上车 出门 回家 回来 回到 过来 过去 出来 进来 来到 走到 送来 送到 带来 带走 拿走
取走 交给 送给 借给 转给 发给 打给 说是 觉得 以为 知道 了解 看到 听到 遇到 碰到 找到 接到
拾得 拾到 捡得 遗失 丢失 被盗 被骗 被打 报称 称有 称在 描述 陈述 讲述 介绍 回答 询问 催促
抱怨 质疑 拒收 拒签 代签 补签 补卡 加班 旷工 早退 出差 考试 上班 下班 上岗 离岗 在岗 到岗
休假 病假 驻场 指挥 带队 监护 抢修 巡视 巡查 抄表 采样 取样 化验 检查 排查 核实 核对 验收
复查 清扫 打开 合闸 分闸 停泵 开泵 汇报 报告 转告 转达 宣布 指出 补充 发言 讲话 主讲 授课
讲课 分享 付款 收款 结账 报销 领料 领走 退回 归还 借用 租用 购房 租房 入住 搬走 搬入 毕业
就读 任职 就职 供职 任教 辞职 去世 病故 昏迷 晕倒 骨折 发烧 咳嗽 呕吐 中毒 溺水 坠落 触电
受骗 报案 自首 逃离 逃逸 落网 被捕 归案 酒后 醉酒 无证 违停 逆行 追尾 撞上 撞到 缺勤 缺席
沟通 协商 协调 商量 商定 交涉 对接 碰面 见面 约定 一起 一同 一道 那边 那里 这边 这里 家的 帮忙 答应 保证
他说 她说 说他 说她 也说 还说 都说 就说 提到 提及 提醒 叮嘱 催办 回个 把水 踩坏 弄坏 打破 陪着 带着 拿着 骑着 开着
推着 抱着 站在 坐在 躺在 倒在 跑到 冲到 赶来 前去 返回 撤离 驶离 驶入 驶来 租住 居住 失联 失火 报平 致谢 表扬 批评
未到 未接 已到 已签 已在 已经 已办 已转 已被 已于 正在 前天 后天 当天 当日 当晚 昨晚 今晚
今早 明早 凌晨 早上 晚上 中午 两人 二人 三人 本次 称其 同时 随后 立即
""")
NOT_NAMES = _list("""
东西 成为 文章 谢谢 于是 应如 时至 终于 等于 关于 对于 至于 属于 处于 大于 小于 低于
高于 基于 位于 发于 在于 便于 用于 限于 出于 鉴于 强电 强风 强制 强度 强烈 强调 强行
强降 幸福 幸运 敬请 敬业 敬老 敬礼 巴士 祖国 乌云 晋级 粟米 来源 来自 来访 来回 来水
来料 寿命 西门 百里 洪水 洪峰 洪涝 傅里 应立 时常 方才 常年 安然 平日 归类 归档 归零
归属 归还 练习 植物 植被 伊始 伊朗 业务 前台 门卫 客服 调度 中控 办公 物业 仓库 保安
全国 江中 连日 成都 明年 左手 右手 和解 和好 温水 严防 严查 严控 向来 相应 应对 应变
应试 高温 高压 高度 高频 高速 高效 高低 高峰 高层 高清 高新 高空 方向 方案 方式 方法
方面 马达 马上 马路 温度 温升 温控 安全 安装 安排 安防 安检 黄色 黄金 黄河 白色 白天
白班 时间 时段 时候 时长 任务 任何 任意 计划 计数 计算 成功 成本 成立 成果 严重 严格
严禁 关闭 关键 关联 关阀 连接 连续 程序 程度 路由 路段 路口 路灯 路面 金属 金额 金融
石油 石化 石英 石材 石灰 水泵 水位 水质 水管 水压 水务 水箱 水厂 江水 江边 江南 河水
海水 海拔 海关 海洋 林场 林业 田间 田地 单位 单元 单号 单据 单价 单独 单次 单机 全部
全程 全站 全新 全体 全年 原因 原油 原料 原则 原始 项目 项次 管道 管理 管线 管网 管井
管路 管段 管控 通道 通知 通讯 通信 通过 通风 明显 明确 明细 明天 华为 华东 华南 华北
向前 向上 向下 向导 解决 解除 解释 解锁 施工 施肥 应急 应用 应该 应答 常见 常规 常开
常闭 常用 平台 平均 平衡 平稳 易燃 易爆 易损 文件 文明 文档 文本 文字 祝您 包装 包括
包含 和平 和谐 段落 万元 万能 万达 万科 万家 顾客 顾问 曾经 何时 何地 钱款 钱包 毛重
毛利 毛病 钟表 雷达 雷雨 雷电 雷击 龙头 龙卷 龙华 龙岗 龙湖 夏季 夏天 秦皇 史料 武器
武警 陆地 陆续 汤圆 叶片 叶轮 叶面 苏打 丁烷 丁醇 丁烯 余量 余额 余热 余氯 童车 童装
支付 支路 车间 车辆 车牌 车站 车主 车位 车库 车型 师傅 农村 农业 农田 农户 农药 景区
景观 封闭 封堵 封口 封条 封存 边界 边缘 边坡 党员 党委 党建 党支 宫颈 费用 费率 冷却
冷凝 冷水 冷库 冷冻 席位 卫生 卫星 卫浴 米饭 柏油 全天 古城 古建 商品 商务 商业 商场
商铺 商户 商家 商城 沙子 沙土 沙尘 荣誉 从而 从事 官方 官网 班组 班次 班长 储存 储能
储罐 储气 储户 简单 简介 简称 简易 简讯 房东 房屋 房间 房产 房主 司机 司法 司炉 尚未
尚可 尚有 左右 左侧 左转 左边 甘油 甘蔗 游客 游泳 游戏 吉他 吉祥 兰花 宁静 宁可 章程
章节 庄稼 庄园 盛大 曲线 曲轴 曲面 阳光 阳极 阳台 阳性 柳树 梅花 梅雨 经理 经过 经办
国家 国际 国网 国道 广告 广场 广播 东侧 东门 东边 东区 南侧 南门 南边 南区 公司 公里
公路 公安 公园 公共 公示 公告 公开 公交 公章 利用 利润 利息 利率 红色 红外 红灯 权限
权利 相关 相同 相机 相位 相对 相电 后台 后续 后门 满足 满意 满载 满负 都是 居民 居住
居委 居家 步骤 步行 步进 容器 容量 容积 习惯 充电 充值 充满 充足 索引 索赔 怀疑 怀孕
印刷 印章 松动 松开 松散 山体 山区 山坡 计量 行业 行驶 行人 行为 行李 行程 由于 由此
初始 初步 初期 初级 修改 修复 修理 修正 修缮 普通 普及 普查 云平 云端 云台 云层 战略
线路 线圈 线缆 线性 线索 候诊 候车 候补 代码 代理 代替 代表 代办 代收 福利 言语 年度
年龄 年检 年月 凤凰 有限 有效 有关 有人 有无 有功 无功 益处 丰富 丰收 盖板 盖子 盖章
展示 展览 展开 隆起 越界 越限 越权 沃土 禄口 空调 空气 空载 空间 空闲 空开 空压 那个
那么 那里 不详 未知 匿名 保密 暂无 待定 测试 本人 同上 未填 无名 不明 系统 默认 管理员
蓝色 蓝牙 蓝天 康复 康养 康健 常温 章鱼 齐全 齐备 牛奶 牛肉 申报 申请 申诉 申领 颜色
纪录 纪念 纪律 尤其 时刻 时速 时效 时钟 农历 卓越 连云 麦克 景点 边沿 党政 晏家 宗旨
桂花 明日 查询 查看 查收 查处 查验 查找 麻烦 麻醉 池塘 谈判 谈话 乐器 乐园 南北 原有
原价 原件 燕窝 方便 方可 方形 金黄 金牌 夏令 付款 付费 江河 林木 罗列 梁柱 程控 唐山
许可 许多 曹操 彭州 肖像 田径 袁州 蔡甸 蒋家 杜绝 叶绿 吕梁 任职 任期 卢沟 沈阳 姜片
范围 范本 范例 汪清 石板 贾汪 侯马 尹家 薛家 严密 莫名 莫非 孔径 孔板 孔洞 孔隙 向日
汤锅 何况 何处 郭家 高端 高级 高考 高原 高铁 高炉 高位 高处 高危 高管 高中 高校 高血
高烧 高热 周期 周围 周边 周末 周一 周二 周三 周四 周五 周六 周日 周转 周报 周年 马桶
朱红 胡同 胡乱 胡椒 孙子 徐徐 张贴 张力 张紧 陈述 陈旧 陈列 杨树 杨柳 黄昏 黄灯 黄线
黄油 吴淞 刘家 王府 李子 夏收 秋收 武汉 常州 施行 安康 安宁 安静 安心 安置 安慰 安保
温馨 温和 温暖 温泉 温差 康乐 文化 文艺 文具 关注 关心 关系 关机 关停 成员 成品 成分
成年 成交 成型 盛装 路线 路过 路径 路边 路基 管件 管壁 管委 管辖 华侨 解放 解析 解冻
艾滋 连锁 连带 连夜 连同 费心 卫健 应当 应收 应付 商议 商标 商会 明亮 明火 池水 官员
封面 封顶 乐趣 南方 班车 班级 班主 储备 储水 储物 原地 终端 终点 终止 终于 终身 终生 区域 区间 区县 区别
区分 区块 区长 宣传 宣布 宣告 宣贯 诸多 诸如 诸位 薄膜 薄弱 薄板 厉害 郁闷 屠宰 狄塞 廉价 廉洁 廉政 花园
花费 花洒 花纹 花草
花坛 花木 花卉 花生 皮带 皮肤 皮管 皮套 皮碗 皮卡 伏安 伏特 危险 危害 危房 危机 危废 滑动 滑轨 滑坡 滑块 滑阀 羊肉
羊毛 杭州 阴极 阴天 阴雨 阴性 阴凉 束缚 秋季 秋天 秋冬 暴雨 暴力 暴露 暴涨 苍蝇 仰角 戎装 奚落 茅草 茅台
原告 原位 祝福 祝贺 相撞 相遇 相邻 相连 相比 相互 相差 相当
""")
"""Words that begin like a name: two characters, or a whole that a form writes in the place of a name."""

NUMBER_LABELS = _list("""
电话 手机 手机号 联系电话 联系方式 号码 身份证 身份证号 证件号 证件号码 卡号 账号 尾号 微信
移动电话 手机号码 电话号码 银行卡 银行卡号 公民身份 邮箱 座机 固话
""")
"""May stand between a name and the number that makes it one. Longer ones match by their first four characters."""

ADDRESS_LABELS = _list("""
地址 住址 住所 家住 住在 现住 位于 地点 户籍 户籍地 寄到 寄往 送到 送至 送往 居住 居住地
籍贯 寄送 配送 门牌 坐落 搬到 租住 暂住 现居
""")

ROADS = _list("""
大道 胡同 国道 省道 公路 环路 中路 东路 西路 南路 北路 大街 马路 步道 支路 横街
""")
NOT_ROADS = _list("""
线路 电路 回路 油路 气路 旁路 短路 断路 网路 管路 母路 铁路 道路 巷道 各路 多路 单路
半路 思路 后路 弯路 绕路 修路 让路 问路 走路 迷路 带路 沿路 整路 全路 此路 该路 网弄
""")
PLACES = _list("""
小区 花园 大厦 广场 公寓 新村 家园 宿舍 社区 别墅 山庄 公馆 豪庭 名苑 雅苑 新城 花苑
佳苑 家苑 新苑 嘉园 雅居 华庭 中心 城邦 国际 华府 名邸 水岸 府邸 家属院 大院 大楼 写字楼
商城 商厦 学校 大学 医院 园区 庭院 华城 名城 丽都 丽苑 半岛 豪苑 景苑 馨苑 馨园 佳园
嘉苑 林苑 翠苑 御园 庄园 公租房 安置房 回迁楼 筒子楼
水乡 左岸 右岸 上城 国府 尚城 名都 名轩 海岸 港湾 悦府 小镇 花城 学府 绿洲 湖畔 江畔 河畔
生活区 住宅区 宿舍区
""")
PLACES_ONE = frozenset(map(ord, "苑园轩庭邸阁郡湾"))
ROADS_ONE = frozenset(map(ord, "路街巷弄"))
VILLAGES = frozenset(map(ord, "村屯庄组"))
AREAS_ONE = frozenset(map(ord, "省市区县旗盟州镇乡"))
DIVISION_ENDS = frozenset(map(ord, "省市区县旗盟州"))
ZONES = _list("""
开发区 工业园 工业区 产业园 科技园
""")
AREAS = _list("""
街道 社区 园区 新区 高新区 经开区
""")
NUMERALS = "一二三四五六七八九十百零〇两甲乙丙丁东西南北中幺"
LATIN_LABELS = (
    *(
        b"name",
        b"contact",
        b"owner",
        b"patient",
        b"driver",
        b"operator",
        b"xm",
        b"lxr",
        b"linkman",
        b"person",
    ),
    *(
        b"receiver",
        b"customer",
        b"holder",
        b"worker",
        b"staff",
        b"user",
        b"client",
        b"author",
        b"by",
        b"guest",
    ),
)
"""Ends of names of fields that hold a person's name; at most eight letters."""
COUNTED = "号栋幢座楼层室户组队弄单舍棟樓巷院社屯门排房塔"
"""What a number of an address counts; 单 stands for 单元."""
NAMING_CHARS = "叫找由派转是给请问与及让称"
"""What stands right behind them up to the next sign may be a name."""
JOINING_CHARS = "和与及跟"
"""Right behind a name they go on with another. The first may have been taken for the end of that name."""
LABEL_CHARS = "人员者"
"""Last characters of words for somebody: what follows may be a name."""

CLOSING = "省市区县旗盟州镇乡村屯庄组街路巷弄里道苑园府轩庭邸阁郡湾厦场寓舍墅馆城岸院心区校学楼房际都岛洲畔"
"""A component of an address may end with one of these."""

# Kinds of words, as bits. A word may have several.
FIELD_LABEL, ROLE_LABEL, TITLE, AFTER, NOT_NAME, COMPOUND, NUMBER_LABEL, ADDRESS_LABEL = (
    1 << k for k in range(8)
)
CITY, COUNTY, ROAD, NOT_ROAD, PLACE, AREA, ZONE = (1 << k for k in range(8, 15))

# Properties of characters, as bits above the two fields surname (0..3) and given (0..3).
SURNAME_SHIFT, GIVEN_SHIFT = 0, 2
HAS_TWO, HAS_THREE, HAS_FOUR = 1 << 4, 1 << 5, 1 << 6
"""Some word of so many characters begins with this one."""
STOPS, TRANSLITERATES, NUMERAL, COUNTS, CLOSES, HAN, FOLLOWS, NAMING, LABELLING = (
    1 << k for k in range(7, 16)
)


def _words() -> dict[str, int]:
    found: dict[str, int] = {}
    for kind, words in (
        (FIELD_LABEL, FIELD_LABELS),
        (ROLE_LABEL, ROLE_LABELS),
        (TITLE, TITLES),
        (AFTER, (*AFTER_NAME, *TITLES)),
        (NOT_NAME, NOT_NAMES),
        (COMPOUND, COMPOUND_SURNAMES),
        (NUMBER_LABEL, NUMBER_LABELS),
        (ADDRESS_LABEL, ADDRESS_LABELS),
        (CITY, PROVINCES_AND_CITIES),
        (COUNTY, COUNTIES),
        (ROAD, ROADS),
        (NOT_ROAD, NOT_ROADS),
        (PLACE, PLACES),
        (AREA, AREAS),
        (ZONE, ZONES),
    ):
        for word in words:
            if len(word) >= 2:
                found[word[:4]] = found.get(word[:4], 0) | kind
    return found


WORDS: dict[str, int] = _words()
"""Kinds of each word of two to four characters."""


def pack(word: str) -> int:
    """Return a word of up to four characters as one number."""
    packed = 0
    for char in word:
        packed = packed << 16 | ord(char)
    return packed


def character_bits() -> list[int]:
    """Return the properties of each code point below 65536."""
    bits = [0] * 65536
    for code in (*range(0x3400, 0x4DC0), *range(0x4E00, 0xA000)):
        bits[code] = HAN | 1 << GIVEN_SHIFT
    given = 3 << GIVEN_SHIFT
    for chars, weight in ((MORE_GIVEN, 2), (TYPICAL_GIVEN, 3)):
        for char in chars:
            bits[ord(char)] = bits[ord(char)] & ~given | weight << GIVEN_SHIFT
    for char in set(FUNCTION_CHARS) - set(_NAMES_TOO) - set(TYPICAL_GIVEN):
        bits[ord(char)] = bits[ord(char)] & ~given
    for char in STOP_CHARS:
        bits[ord(char)] = bits[ord(char)] & ~given | STOPS
    for chars, weight in ((RARE_SURNAMES, 1), (SURNAMES, 2), (COMMON_SURNAMES, 3)):
        for char in chars:
            bits[ord(char)] = bits[ord(char)] & ~3 | weight
    for chars, bit in (
        (TRANSLIT, TRANSLITERATES),
        (NUMERALS, NUMERAL),
        (COUNTED, COUNTS),
        (CLOSING, CLOSES),
        (FOLLOW_CHARS, FOLLOWS),
        (NAMING_CHARS, NAMING),
        (LABEL_CHARS, LABELLING),
    ):
        for char in chars:
            bits[ord(char)] |= bit
    for word in WORDS:
        bits[ord(word[0])] |= (HAS_TWO, HAS_THREE, HAS_FOUR)[len(word) - 2]
    return bits
